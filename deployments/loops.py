"""Loops that run as long as their process: no error ends one, and its end is noticed."""

import asyncio
from collections.abc import Awaitable, Callable

from cluster.logs import get_logger
from deployments.errors import LoopEndedError

logger = get_logger(__name__)


class Loop:
    """A task that takes one turn after another until it is stopped.

    What a turn raises is logged, and the next one comes later: whatever it was, nobody else does
    this work.

    Args:
        name: For the log.
        turn: One turn, with its pause.
        max_backoff_s: Longest wait after turns that failed; the first is a second, then doubled.
    """

    def __init__(
        self, name: str, turn: Callable[[], Awaitable[object]], *, max_backoff_s: float = 30.0
    ) -> None:
        self._name = name
        self._turn = turn
        self._max_backoff_s = max_backoff_s
        self._stopped = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins."""
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        """Cancels the turn that is under way and takes no more; returns when it is over."""
        # A flag beside the cancellation, which wait_for loses (before 3.12) when both come at once.
        self._stopped = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def finish(self) -> None:
        """Takes no more turns; returns when the one that is under way is over."""
        self._stopped = True
        if self._task is not None:
            await asyncio.wait({self._task})

    def check(self) -> None:
        """Raises if the loop has ended by itself.

        Raises:
            LoopEndedError: It has.
        """
        if self._task is not None and self._task.done() and not self._stopped:
            raise LoopEndedError(f"the loop {self._name} has ended")

    async def _run(self) -> None:
        failed = 0
        while not self._stopped:
            try:
                await self._turn()
                failed = 0
            except Exception:  # the edge of the work: nobody waits for this task
                failed += 1
                logger.exception("loop_turn_failed", loop=self._name, failed=failed)
                await asyncio.sleep(min(self._max_backoff_s, 2.0 ** min(failed - 1, 16)))
