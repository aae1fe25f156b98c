"""A gang: N ranks that work on one job at a time, start together, die together and come back.

The owner (a Serve replica's controller, or any process with an event loop) holds a `Gang`. One
dispatcher task makes every call to the ranks; callers only enqueue a job and read its items.
All methods but `check_health` and `state` belong on the event loop that started the gang.
"""

import asyncio
import contextvars
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from typing import Any, TypeVar

import ray
from ray.util.placement_group import PlacementGroup, remove_placement_group

from cluster.config import GangConfig
from cluster.errors import (
    GangError,
    GangHealingError,
    GangStartError,
    GangStoppedError,
    RankDiedError,
)
from cluster.gang_metrics import GangMetrics
from cluster.health import GangState, Phase, judge
from cluster.job import Job, JobRun
from cluster.logs import LogConfig, get_logger
from cluster.placement import RankPlace
from cluster.program import ProgramFactory
from cluster.rank_set import RankSet, gang_id
from cluster.reservation import reserve
from model.errors import DenoiseCancelled, LingBotError

logger = get_logger(__name__)
T = TypeVar("T")

STOP_GRACE_S = 2.0


class Gang:
    """Ranks ready for jobs; made by `Gang.start`."""

    def __init__(
        self,
        config: GangConfig,
        factory: ProgramFactory,
        group: PlacementGroup,
        *,
        owns_group: bool,
        name: Callable[[], str],
        logs: LogConfig,
    ) -> None:
        self._config = config
        self._factory = factory
        self._group = group
        self._owns_group = owns_group
        self._metrics = GangMetrics(name, config.size)
        self._logs = logs
        self._log = logger.bind(gang_id=gang_id(group))
        self._state = GangState(Phase.STARTING, time.monotonic())
        self._queued: dict[str, Job] = {}
        self._running: Job | None = None
        self._arrived = asyncio.Event()
        self._ranks: RankSet
        self._start_s = 0.0
        self._dispatcher: asyncio.Task[None]

    @classmethod
    async def start(
        cls,
        config: GangConfig,
        factory: ProgramFactory,
        *,
        placement_group: PlacementGroup | None = None,
        name: Callable[[], str] = lambda: "0",
        logs: LogConfig | None = None,
    ) -> "Gang":
        """Starts all ranks, or none.

        Args:
            config: What the gang is.
            factory: Builds the program on each rank.
            placement_group: Where the ranks go: `cluster.placement.replica_bundles`. By default
                the group of the calling process (a Serve replica has one), else one of its own.
            name: The gang's number among all, for the metrics.
            logs: How the ranks write their log.

        Raises:
            GangStartError: Some ranks were not ready in time; the message has each one's error.
            ConfigurationError: The placement group does not fit.
        """
        given = placement_group or ray.util.get_current_placement_group()
        group = given or await reserve(config)
        gang = cls(
            config, factory, group, owns_group=given is None, name=name, logs=logs or LogConfig()
        )
        try:
            gang._ranks = await _detached(gang._start_ranks())
        except BaseException:
            gang._release()
            raise
        gang._enter(Phase.IDLE)
        gang._dispatcher = _detached(gang._dispatch())
        return gang

    @property
    def state(self) -> GangState:
        """What the gang is doing now."""
        return self._state

    @property
    def places(self) -> tuple[RankPlace, ...]:
        """Where the present ranks live, in rank order."""
        return tuple(self._ranks.places)

    @property
    def facts(self) -> object:
        """What the program of the present ranks chose at its start."""
        return self._ranks.facts

    @property
    def start_s(self) -> float:
        """Seconds that the present ranks took from nothing until they were ready."""
        return self._start_s

    async def run(
        self,
        job_id: str,
        request: object,
        *,
        log_fields: Mapping[str, str] | None = None,
        begun: object = None,
    ) -> AsyncGenerator[object, None]:
        """Queues a job and yields rank 0's items as they come; jobs run first come, first served.

        Closing the iterator, or cancelling the task that reads it, cancels the job.

        Args:
            job_id: A name no other unfinished job has.
            request: What the program takes; goes to all ranks through the object store.
            log_fields: What the job's lines in the log carry; its `job_id` may be another there.
            begun: An item to yield first, when the job leaves the queue.

        Raises:
            ValueError: The name is taken.
            DenoiseCancelled: The job was cancelled.
            GangError: The ranks were lost; others take their place, the job is not repeated.
            LingBotError: Whatever else the program raised on all ranks.
        """
        job = self._enqueue(Job(job_id, request, log_fields, begun))
        try:
            async for item in job.items():
                yield item
        finally:
            self._withdraw(job)

    def cancel(self, job_id: str) -> bool:
        """Takes a job out of the queue, or ends it at its next step boundary.

        Returns:
            Whether there was such a job.
        """
        job = self._find(job_id)
        if job is not None:
            self._withdraw(job)
        return job is not None

    def check_takes_jobs(self) -> None:
        """Looks whether a job given now would run next but for those that wait: no call, O(1).

        Raises:
            GangHealingError: It would wait for new ranks.
            GangStoppedError: It would never run.
        """
        if self._state.phase is Phase.HEALING:
            raise GangHealingError(f"the gang is healing: {self._state.reason}")
        if self._state.phase is Phase.DEAD:
            raise GangStoppedError(self._state.reason)

    def check_health(self) -> None:
        """Looks at the gang's state only: no call, O(1).

        Raises:
            GangStoppedError: The gang is dead or makes no progress, and should be replaced.
        """
        verdict = judge(self._state, self._config, time.monotonic())
        if not verdict.healthy:
            raise GangStoppedError(verdict.reason)

    async def stop(self) -> None:
        """Ends all jobs and all rank processes; a second call does nothing."""
        self._dispatcher.cancel()
        await asyncio.gather(self._dispatcher, return_exceptions=True)
        await self._ranks.kill(grace_s=STOP_GRACE_S)
        self._release()

    def _enqueue(self, job: Job) -> Job:
        if self._state.phase is Phase.DEAD:
            raise GangStoppedError(self._state.reason)
        if self._find(job.id) is not None:
            raise ValueError(f"job {job.id} is already queued or running: take another name")
        self._queued[job.id] = job
        self._metrics.queue(len(self._queued))
        self._arrived.set()
        return job

    def _find(self, job_id: str) -> Job | None:
        if self._running is not None and self._running.id == job_id:
            return self._running
        return self._queued.get(job_id)

    def _withdraw(self, job: Job) -> None:
        if job is self._running:
            job.cancelled_s = time.monotonic()
            job.is_cancelled.set()
        elif self._queued.get(job.id) is job:
            del self._queued[job.id]
            self._metrics.queue(len(self._queued))
            job.end(DenoiseCancelled(f"job {job.id} was cancelled before it began"))

    def _enter(self, phase: Phase, job_id: str | None = None, reason: str = "") -> None:
        self._state = GangState(phase, time.monotonic(), job_id, 0, reason)
        self._metrics.enter(phase)

    async def _dispatch(self) -> None:
        reason = "the gang was stopped"
        try:
            while True:
                try:
                    await self._run_next()
                except GangError as error:
                    await self._heal(error)
        except GangStoppedError as error:
            reason = str(error)
        except Exception as error:
            # A fault of the dispatcher itself: the owner learns of it by check_health.
            reason = f"its dispatcher failed: {type(error).__name__}: {error}"
            self._log.exception("gang_dispatcher_failed")
        finally:
            self._retire(reason)

    async def _run_next(self) -> None:
        """Waits for a job and runs it.

        Raises:
            GangError: The ranks are lost; the job knows already.
        """
        job = await self._next_job()
        self._metrics.begin(job)
        self._enter(Phase.RUNNING, job.id)
        log, start_s = self._log.bind(**job.log_fields), time.monotonic()
        log.info("gang_job_started", queued=len(self._queued))
        if job.begun is not None:
            job.put(job.begun)
        error: LingBotError | None = None
        try:
            await JobRun(job, self._ranks, self._config, self._count).run()
        except LingBotError as raised:
            error = raised
        self._running = None
        self._metrics.end(job, error)
        log.info("gang_job_ended", seconds=_since(start_s), error=str(error) if error else None)
        job.end(error)
        if isinstance(error, GangError):
            raise error
        self._enter(Phase.IDLE)

    async def _next_job(self) -> Job:
        while True:
            if dead := self._ranks.dead():
                raise RankDiedError(dead)
            if self._queued:
                self._running = self._queued.pop(next(iter(self._queued)))
                self._metrics.queue(len(self._queued))
                return self._running
            self._arrived.clear()
            arrival = asyncio.ensure_future(self._arrived.wait())
            try:
                await asyncio.wait(
                    {arrival, *self._ranks.deaths}, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                arrival.cancel()

    def _count(self, num_items: int) -> None:
        self._state = GangState(Phase.RUNNING, time.monotonic(), self._state.job_id, num_items)

    async def _heal(self, cause: GangError) -> None:
        """Replaces all ranks in the same placement group; queued jobs wait.

        Raises:
            GangStoppedError: `max_heal_attempts` starts have failed.
        """
        self._metrics.lose(cause)
        self._enter(Phase.HEALING, reason=str(cause))
        start_s = time.monotonic()
        self._log.error("gang_lost", cause=cause.code, ranks=cause.ranks, reason=str(cause))
        if survivors := await self._ranks.kill():
            self._log.error("ranks_outlived_sigkill", pids=survivors)
        for attempt in range(1, self._config.max_heal_attempts + 1):
            try:
                self._ranks = await self._start_ranks()
            except GangStartError as error:
                self._log.error("gang_restart_failed", attempt=attempt, reason=str(error))
                cause = error
            else:
                self._log.info("gang_healed", attempt=attempt, seconds=_since(start_s))
                self._enter(Phase.IDLE)
                return
        raise GangStoppedError(f"{self._config.max_heal_attempts} restarts failed; {cause}")

    async def _start_ranks(self) -> RankSet:
        """Starts a generation of ranks and says so.

        Raises:
            GangStartError: Some ranks were not ready in time.
        """
        start_s = time.monotonic()
        self._log.info("gang_starting", ranks=self._config.size, placement=self._config.placement)
        ranks = await RankSet.start(self._config, self._factory, self._group, self._logs)
        self._start_s = _since(start_s)
        self._log.info("gang_ready", ranks=self._config.size, seconds=self._start_s)
        return ranks

    def _retire(self, reason: str) -> None:
        self._enter(Phase.DEAD, reason=reason)
        self._log.info("gang_stopped", reason=reason)
        unfinished = [self._running] if self._running else []
        for job in [*unfinished, *self._queued.values()]:
            job.end(GangStoppedError(reason))
        self._running = None
        self._queued.clear()

    def _release(self) -> None:
        if self._owns_group:
            remove_placement_group(self._group)
            self._owns_group = False


def _since(start_s: float) -> float:
    return round(time.monotonic() - start_s, 3)


def _detached(work: "Coroutine[Any, Any, T]") -> "asyncio.Task[T]":
    """A task in an empty context.

    Ray keeps the current task's id in a context variable and cancels children along with their
    parent. Calls to the ranks must not be children of whichever request came first.
    """
    return contextvars.Context().run(asyncio.get_running_loop().create_task, work)
