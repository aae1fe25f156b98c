"""Which denoise of a job goes on: a later attempt takes over what an earlier one still makes.

A stream goes on when its reader's process dies: nobody tells the process at its other end. After a
gateway's death it is the pipeline that goes on; its later attempt follows the earlier one here.
After the pipeline's own death it is a gang, which tells the next pipeline of its clip
(`deployments.orphans`) until a later attempt has taken it, or nobody wants it.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from model.errors import DenoiseCancelled
from model.types import Latents, SamplerState, Step

Item = Step | SamplerState | Latents

# Of clips that have ended; 8 MB each for 81 frames of 832x480.
_MAX_KEPT = 4
# Ids of jobs that were cancelled; one that is forgotten costs what `_PATIENCE_S` bounds.
_MAX_ENDED = 1000
# How soon a later attempt sees the next step of an earlier one.
_LOOK_S = 0.1
# A gang tells of its clip every second.
_SILENCE_S = 10.0
# Longer than any lease and back-off of usual settings: a job that is to be made has asked by then.
_PATIENCE_S = 120.0
_END: Any = object()


class Attempts:
    """The denoises that are under way, and the latents of the last ones that have ended.

    Args:
        settle_s: How long after its start gangs may still tell of their clips: a later attempt
            waits for that.
    """

    def __init__(self, *, settle_s: float = 3.0) -> None:
        self._settled_s = time.monotonic() + settle_s
        self._clips: OrderedDict[str, _Clip] = OrderedDict()
        self._ended: OrderedDict[str, None] = OrderedDict()

    async def once(
        self, job_id: str, run: AsyncGenerator[Item, None], *, attempt: int
    ) -> AsyncGenerator[Item, None]:
        """Yields what a run makes, or what an earlier one for the same job goes on to make.

        Args:
            job_id: Whose attempt this is; the same id asks for the same clip.
            run: Denoises; left alone where an earlier run comes to its end.
            attempt: Counts from 1.

        Raises:
            DenoiseCancelled: The job was ended.
        """
        if attempt > 1:
            await asyncio.sleep(max(0.0, self._settled_s - time.monotonic()))
        if (earlier := self._clips.get(job_id)) is not None:
            async with aclosing(earlier.follow()) as known:
                async for seen in known:
                    yield seen
            if earlier.latents is not None:
                return
        if job_id in self._ended:
            raise DenoiseCancelled(f"job {job_id} was ended")
        clip = self._clips[job_id] = _Clip()
        try:
            async with aclosing(clip.until_stopped(run)) as items:
                async for item in items:
                    clip.note(item)
                    yield item
        finally:
            clip.is_over = True
            self._forget(job_id, clip)

    def hear(self, job_id: str, item: Step | Latents | None) -> bool:
        """Takes what a gang makes for a pipeline that is gone.

        Args:
            job_id: Whose clip it is.
            item: The newest; None while there is none.

        Returns:
            Whether the gang should go on with it.
        """
        clip = self._clips.get(job_id)
        if job_id in self._ended or (clip is not None and not clip.is_elsewhere):
            return False
        if clip is None:
            clip = self._clips[job_id] = _Clip(is_elsewhere=True)
        clip.heard_s = time.monotonic()
        if item is not None:
            clip.note(item)
        wanted = clip.is_wanted
        if clip.latents is not None or not wanted:
            clip.is_over = True
            self._forget(job_id, clip)
        return wanted

    def end(self, job_id: str) -> None:
        """Stops what is made for a job, now and for good."""
        self._ended[job_id] = None
        while len(self._ended) > _MAX_ENDED:
            self._ended.popitem(last=False)
        if (clip := self._clips.get(job_id)) is not None:
            clip.stop()

    def _forget(self, job_id: str, clip: "_Clip") -> None:
        if clip.latents is None and self._clips.get(job_id) is clip:
            del self._clips[job_id]
        ended = [name for name, each in self._clips.items() if each.is_lost]
        for name in ended[:-_MAX_KEPT]:
            del self._clips[name]


class _Clip:
    """How far one clip is.

    Args:
        is_elsewhere: A gang makes it for nobody, and tells of it.
    """

    def __init__(self, *, is_elsewhere: bool = False) -> None:
        self.is_elsewhere = is_elsewhere
        self.is_over = False
        self.latents: Latents | None = None
        self.heard_s = self._born_s = time.monotonic()
        self._followers = 0
        self._step: Step | None = None
        self._stopped = asyncio.Event()

    @property
    def is_wanted(self) -> bool:
        """Whether somebody follows it, or may still come to."""
        waited_s = time.monotonic() - self._born_s
        return not self._stopped.is_set() and (self._followers > 0 or waited_s < _PATIENCE_S)

    def stop(self) -> None:
        """Ends the work on it."""
        self._stopped.set()

    def note(self, item: Item) -> None:
        if isinstance(item, Latents):
            self.latents = item
        elif isinstance(item, Step):
            self._step = item

    async def follow(self) -> AsyncGenerator[Step | Latents, None]:
        """Yields the newest step again and again, and the latents if it comes to them.

        A follower that leaves before ends the clip: there is nobody else who wants it.
        """
        seen: Step | None = None
        self._followers += 1
        try:
            while not self.is_lost and self.latents is None:
                if self._step is not None and self._step is not seen:
                    seen = self._step
                    yield seen
                await asyncio.sleep(_LOOK_S)
            if self.latents is not None:
                yield self.latents
        except BaseException:
            self.stop()
            raise
        finally:
            self._followers -= 1

    async def until_stopped(self, items: AsyncGenerator[Item, None]) -> AsyncGenerator[Item, None]:
        """Yields items until the clip is stopped.

        Raises:
            DenoiseCancelled: It was.
        """
        stopped = asyncio.ensure_future(self._stopped.wait())
        try:
            while (item := await _first(anext(items, _END), stopped)) is not _END:
                yield item
        finally:
            stopped.cancel()
            await items.aclose()

    @property
    def is_lost(self) -> bool:
        """Whether nothing more will come of it."""
        silent = self.is_elsewhere and time.monotonic() - self.heard_s > _SILENCE_S
        return self.is_over or self._stopped.is_set() or silent


async def _first(item: Any, stopped: "asyncio.Future[Any]") -> Any:
    """An item, unless the end is first."""
    waiting = asyncio.ensure_future(item)
    try:
        await asyncio.wait({waiting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if stopped.done():
            raise DenoiseCancelled("the job was ended")
        return waiting.result()
    finally:
        if not waiting.done():
            waiting.cancel()
            await asyncio.wait({waiting})
