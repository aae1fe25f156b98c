"""What a gang makes or has just made for a job: a later attempt takes it over.

A stream goes on when its reader's process dies: nobody tells the replica at its other end. The gang
so finishes a clip that nobody takes, while the job is tried again. The later attempt gets that clip
instead of a second denoise.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing

from model.types import Latents, SamplerState, Step

# Of clips that have ended; 8 MB each for 81 frames of 832x480.
_MAX_KEPT = 2
# How soon a later attempt sees the next step of an earlier one.
_LOOK_S = 0.1


class Attempts:
    """The clips that a gang has begun, and the latents of the last ones that it has ended."""

    def __init__(self) -> None:
        self._clips: OrderedDict[str, _Clip] = OrderedDict()

    async def once(
        self, job_id: str, run: AsyncGenerator[Step | SamplerState | Latents, None]
    ) -> AsyncGenerator[Step | SamplerState | Latents, None]:
        """Yields what a run makes, or what an earlier one for the same job goes on to make.

        Args:
            job_id: Whose attempt this is; the same id asks for the same clip.
            run: Denoises; left alone where an earlier run comes to its end.
        """
        earlier = self._clips.get(job_id)
        if earlier is not None:
            async for known in earlier.follow():
                yield known
            if earlier.latents is not None:
                return
        clip = self._clips[job_id] = _Clip()
        try:
            async with aclosing(run) as items:
                async for item in items:
                    clip.note(item)
                    yield item
        finally:
            clip.is_over = True
            self._forget(job_id, clip)

    def _forget(self, job_id: str, clip: "_Clip") -> None:
        if clip.latents is None and self._clips.get(job_id) is clip:
            del self._clips[job_id]
        ended = [name for name, each in self._clips.items() if each.is_over]
        for name in ended[:-_MAX_KEPT]:
            del self._clips[name]


class _Clip:
    """How far one clip is."""

    def __init__(self) -> None:
        self.is_over = False
        self.latents: Latents | None = None
        self._step: Step | None = None

    def note(self, item: Step | SamplerState | Latents) -> None:
        if isinstance(item, Latents):
            self.latents = item
        elif isinstance(item, Step):
            self._step = item

    async def follow(self) -> AsyncGenerator[Step | Latents, None]:
        """Yields the newest step again and again, and the latents if it comes to them."""
        seen: Step | None = None
        while not (self.is_over or self.latents is not None):
            if self._step is not None and self._step is not seen:
                seen = self._step
                yield seen
            await asyncio.sleep(_LOOK_S)
        if self.latents is not None:
            yield self.latents
