"""The gateway's task that collects garbage now and then."""

import asyncio
import random

from sqlalchemy.exc import SQLAlchemyError

from cluster.logs import get_logger
from deployments.artifacts.collector import Collector, Reason, Tally
from deployments.errors import ArtifactStoreError
from deployments.loops import Loop

logger = get_logger(__name__)


class Collecting:
    """Collects again and again, one pass at a time.

    Args:
        collector: Does it.
        interval_s: Between two passes, on average: gateways that started together should not
            go through the same store together.
    """

    def __init__(self, collector: Collector, *, interval_s: float) -> None:
        self._collector = collector
        self._interval_s = interval_s
        self.loop = Loop("collecting", self._turn)

    async def _turn(self) -> None:
        await asyncio.sleep(self._interval_s * random.uniform(0.5, 1.5))
        try:
            found = await asyncio.to_thread(self._collector.collect, delete=True)
        except (ArtifactStoreError, SQLAlchemyError) as error:
            logger.warning("artifacts_not_collected", error=type(error).__name__)
        else:
            _log(found)


def _log(found: dict[Reason, Tally]) -> None:
    num_bytes = sum(tally.num_bytes for tally in found.values())
    if any(tally.num_files for tally in found.values()):
        files = {reason.value: tally.num_files for reason, tally in found.items()}
        logger.info("artifacts_collected", num_bytes=num_bytes, **files)
