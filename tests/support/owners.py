"""A process that owns a gang, as a Serve replica does."""

import os
import sys
from collections.abc import AsyncIterator

import ray

from cluster.config import GangConfig
from cluster.gang import Gang
from cluster.program import ProgramFactory


@ray.remote(num_cpus=0, max_restarts=0)
class GangOwner:
    """An async actor whose requests only enqueue and read."""

    def __init__(self, config: GangConfig, factory: ProgramFactory) -> None:
        self._config = config
        self._factory = factory

    async def start(self) -> list[int]:
        """Starts the gang and returns its ranks' process ids."""
        self._gang = await Gang.start(self._config, self._factory)
        return await self.pids()

    async def run(self, job_id: str, request: object) -> AsyncIterator[object]:
        """One streamed request."""
        async for item in self._gang.run(job_id, request):
            yield item

    async def pids(self) -> list[int]:
        """Process ids of the present ranks."""
        return [place.pid for place in self._gang.places]

    async def has_imported(self, module: str) -> bool:
        """Whether this process has."""
        return module in sys.modules

    async def pid(self) -> int:
        """This process."""
        return os.getpid()
