"""How a stage runs its model without stopping its replica from answering.

Stages import torch and their model where a replica begins, not with their module: who deploys them
needs neither, and their import takes longer than Serve to start.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from cluster.logs import get_logger
from deployments.errors import StageOutOfMemoryError
from deployments.messages import Stage
from deployments.pipeline_config import StageConfig

logger = get_logger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

_END: Any = object()


class ModelThread:
    """One thread for all calls of a replica's model; the event loop stays free.

    One, because two calls at once would only share the same cores or the same GPU.

    Args:
        config: Of the stage.
        stage: Which it is.
    """

    def __init__(self, config: StageConfig, stage: Stage) -> None:
        import torch

        self._stage = stage.value
        self._out_of_memory = (MemoryError, torch.OutOfMemoryError)
        self.device: torch.device = torch.device(config.device)
        self.dtype: torch.dtype = getattr(torch, config.dtype)
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        if config.threads is not None:
            torch.set_num_threads(config.threads)

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a function in the model's thread.

        Raises:
            StageOutOfMemoryError: Its memory did not suffice.
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, lambda: function(*args, **kwargs))
        except self._out_of_memory as error:
            # Not as it is: it would bring torch into processes that do without.
            logger.exception("stage_out_of_memory")
            raise StageOutOfMemoryError(self._stage, "ran out of memory") from error

    async def iterate(self, items: Iterator[T]) -> AsyncGenerator[T, None]:
        """Pulls items one by one in the model's thread; leaving the loop stops the work."""
        while (item := await self.call(next, items, _END)) is not _END:
            yield item
