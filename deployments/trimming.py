"""Gives memory that was freed back to the operating system.

Requests of all sizes begin and end at once, and glibc gives back only what lies free at the end of
its heaps. The holes between what is in use stay with the process, and become more for a long time
(docs/reliability.md has the figures).
"""

import asyncio
import ctypes

from deployments.loops import Loop


class Trimming:
    """A task that gives back what is free, again and again.

    Args:
        interval_s: Between two times.
    """

    def __init__(self, *, interval_s: float = 60.0) -> None:
        self._interval_s = interval_s
        # Only glibc has it.
        self._malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self.loop = Loop("trimming", self._turn)

    async def _turn(self) -> None:
        await asyncio.sleep(self._interval_s)
        if self._malloc_trim is not None:
            await asyncio.to_thread(self._malloc_trim, 0)
