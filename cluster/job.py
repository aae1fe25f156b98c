"""One job on its way through a gang, seen from the owner."""

import asyncio
import pickle
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ray

from cluster.config import GangConfig
from cluster.errors import RankDiedError, RankFailedError, RankOutOfMemoryError, StepTimeoutError
from cluster.program import Outcome, laggards
from cluster.rank_set import SETTLE_S, RankSet, watch_ref
from model.errors import InvalidInputError, LingBotError

PING_TIMEOUT_S = 1.0
# A neighbour's broken connection can be told sooner than the death that broke it.
DEATH_NOTICE_S = 0.5


@dataclass(frozen=True, slots=True)
class _End:
    error: LingBotError | None


class Job:
    """A request, the items it has produced and whether it is to end.

    The caller's coroutine touches nothing but this object; all calls to the ranks are the
    dispatcher's. (A call made by a request's coroutine is its child to Ray, which cancels it
    with the request: one rank stops and the others wait for it in a collective.)

    Args:
        job_id: Its name.
        request: What the program takes.
        begun: An item of the owner's, handed to the caller when the ranks begin.
        log_fields: What its lines in the log carry beside its name, or instead of it.
    """

    def __init__(
        self,
        job_id: str,
        request: object,
        log_fields: Mapping[str, str] | None = None,
        begun: object = None,
    ) -> None:
        self.id = job_id
        self.request = request
        self.begun = begun
        self.arrived_s = time.monotonic()
        self.cancelled_s: float | None = None
        self.gang = ""
        self.log_fields = {"job_id": job_id, **(log_fields or {})}
        self.is_cancelled = asyncio.Event()
        # Unbounded, but a job has few items, and the large one is the last.
        self._items: asyncio.Queue[object] = asyncio.Queue()

    def put(self, item: object) -> None:
        """Hands an item to the caller."""
        self._items.put_nowait(item)

    def end(self, error: LingBotError | None) -> None:
        """Ends the caller's iteration, with an error or without."""
        self._items.put_nowait(_End(error))

    async def items(self) -> AsyncIterator[object]:
        """Items as they come; raises what the job ended with."""
        while not isinstance(item := await self._items.get(), _End):
            yield item
        if item.error is not None:
            raise item.error


class JobRun:
    """A job running on a set of ranks.

    Args:
        job: The job.
        ranks: Ready ranks that run nothing else.
        config: The gang's deadlines.
        on_item: Called with the number of items so far, at each.
    """

    def __init__(
        self, job: Job, ranks: RankSet, config: GangConfig, on_item: Callable[[int], None]
    ) -> None:
        self._job = job
        self._ranks = ranks
        self._config = config
        self._on_item = on_item
        self._num_items = 0
        self._progress_s = time.monotonic()
        self._moved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._outcomes: dict[int, Outcome] = {}
        self._settle_by_s = float("inf")

    async def run(self) -> None:
        """Runs the job to its end.

        Raises:
            GangError: The ranks are lost.
            LingBotError: The program ended the job on all ranks alike; they are ready for more.
        """
        try:
            request = ray.put(self._job.request)
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            raise InvalidInputError("request", f"it must be picklable: {error}") from error
        leader, *others = self._ranks.actors
        call = (self._job.id, request, self._job.gang, self._job.log_fields)
        stream = leader.lead.remote(*call)
        follows = [actor.follow.remote(*call) for actor in others]
        endings = [asyncio.ensure_future(self._stream(stream)), *map(watch_ref, follows)]
        cancel = asyncio.ensure_future(self._forward_cancel())
        stall = asyncio.ensure_future(self._stall())
        try:
            await self._watch(endings, stall)
        finally:
            tasks = (endings[0], cancel, stall)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._judge()

    async def _stream(self, stream: Any) -> Outcome:
        """Passes rank 0's items on; its outcome comes last."""
        async for ref in stream:
            item = await ref
            if isinstance(item, Outcome):
                return item
            self._num_items += 1
            self._advance()
            self._on_item(self._num_items)
            self._job.put(item)
        raise RankFailedError(0, "its stream ended without an outcome")

    async def _forward_cancel(self) -> None:
        await self._job.is_cancelled.wait()
        self._ranks.actors[0].cancel.remote(self._job.id)

    async def _watch(
        self, endings: "list[asyncio.Future[Outcome]]", stall: "asyncio.Future[StepTimeoutError]"
    ) -> None:
        """Returns when every rank has ended or should have."""
        while len(self._outcomes) < len(endings) and time.monotonic() < self._settle_by_s:
            pending = {e for rank, e in enumerate(endings) if rank not in self._outcomes}
            events: set[asyncio.Future[Any]] = {*pending, stall, *self._ranks.deaths}
            await asyncio.wait(
                events,
                timeout=max(0.0, self._settle_by_s - time.monotonic()),
                return_when=asyncio.FIRST_COMPLETED,
            )
            for rank, ending in enumerate(endings):
                if ending in pending and ending.done():
                    await self._note(rank, ending)
            if len(self._outcomes) < len(endings):
                self._check_alive()
            if stall.done():
                # A rank that ended alone explains the silence of the others better.
                self._judge()
                raise stall.result()

    async def _note(self, rank: int, ending: "asyncio.Future[Outcome]") -> None:
        """Keeps a rank's outcome; raises when it means that the ranks are lost."""
        self._advance()
        try:
            outcome = ending.result()
        except ray.exceptions.RayActorError as error:
            raise RankDiedError(self._ranks.dead() or [rank]) from error
        except Exception as error:
            raise RankFailedError(rank, f"{type(error).__name__}: {error}") from error
        self._outcomes[rank] = outcome
        if outcome.failure is not None:
            await asyncio.wait(
                self._ranks.deaths, timeout=DEATH_NOTICE_S, return_when=asyncio.FIRST_COMPLETED
            )
            self._check_alive()
            kind = RankOutOfMemoryError if outcome.out_of_memory else RankFailedError
            raise kind(rank, outcome.failure, outcome.rank_traceback)
        if outcome.error is not None:
            self._settle_by_s = min(self._settle_by_s, time.monotonic() + SETTLE_S)

    def _check_alive(self) -> None:
        if dead := self._ranks.dead():
            raise RankDiedError(dead)

    async def _stall(self) -> StepTimeoutError:
        """Returns once nothing has moved for too long."""
        while True:
            self._moved = asyncio.get_running_loop().create_future()
            seen_s, patience_s = self._progress_s, self._patience_s()
            ping_s = min(PING_TIMEOUT_S, patience_s / 2)
            if await self._moves_by(seen_s + patience_s - ping_s):
                continue
            # The end of the patience goes into finding out who is stuck.
            reports = await self._ranks.ping(ping_s)
            if not await self._moves_by(seen_s + patience_s):
                stuck = laggards(reports, self._job.id)
                return StepTimeoutError(stuck, time.monotonic() - seen_s)

    def _advance(self) -> None:
        self._progress_s = time.monotonic()
        if not self._moved.done():
            self._moved.set_result(None)

    async def _moves_by(self, moment_s: float) -> bool:
        """Waits for progress, at most until then; says whether there was any."""
        # Not wait_for: before Python 3.12 it can swallow a cancellation.
        timeout_s = max(0.0, moment_s - time.monotonic())
        moved, _ = await asyncio.wait({self._moved}, timeout=timeout_s)
        return bool(moved)

    def _patience_s(self) -> float:
        config = self._config
        return config.step_timeout_s if self._num_items else config.first_step_timeout_s

    def _judge(self) -> None:
        """Raises what the outcomes mean, unless all are done."""
        refusals = [o for _, o in sorted(self._outcomes.items()) if o.error is not None]
        if not refusals:
            return
        first = refusals[0]
        kinds = {(type(refusal.error), str(refusal.error)) for refusal in refusals}
        if len(refusals) < len(self._ranks.actors) or len(kinds) > 1:
            problem = f"{type(first.error).__name__}: {first.error} (the ranks did not end alike)"
            raise RankFailedError(first.rank, problem)
        assert first.error is not None
        raise first.error
