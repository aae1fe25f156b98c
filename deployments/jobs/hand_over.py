"""Between the queue and the gangs: how many jobs go over, and who hears of the rest."""

import asyncio

from sqlalchemy.exc import SQLAlchemyError

from cluster.logs import get_logger
from deployments.errors import PipelineUnavailableError
from deployments.jobs.forecast import Forecast
from deployments.jobs.queue import max_in_progress
from deployments.jobs.runner import JobRunner
from deployments.loops import Loop
from deployments.pipeline_client import PipelineClient

logger = get_logger(__name__)


class HandOver:
    """A task that tells the pipeline again and again what waits here, and follows the gangs.

    Gateways that share a database tell the same, so it does not matter which one was heard last.

    Args:
        forecast: Knows the queue.
        runner: Hands jobs over.
        pipeline: Hears of the queue.
        interval_s: Between two times.
        follow_gangs: Whether the number of jobs handed over follows the gangs that run.
    """

    def __init__(
        self,
        forecast: Forecast,
        runner: JobRunner,
        pipeline: PipelineClient,
        *,
        interval_s: float,
        follow_gangs: bool,
    ) -> None:
        self._forecast = forecast
        self._runner = runner
        self._pipeline = pipeline
        self._interval_s = interval_s
        self._follow_gangs = follow_gangs
        self.loop = Loop("hand_over", self._turn)

    async def _turn(self) -> None:
        try:
            await self._once()
        except (PipelineUnavailableError, SQLAlchemyError) as error:
            logger.debug("queue_not_told", error=str(error))
        await asyncio.sleep(self._interval_s)

    async def _once(self) -> None:
        if self._follow_gangs:
            num_gangs = await self._pipeline.num_gangs()
            self._runner.set_max_in_progress(max_in_progress(num_gangs))
        await self._pipeline.tell_queue(await asyncio.to_thread(self._forecast.queue))
