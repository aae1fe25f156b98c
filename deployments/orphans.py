"""Clips of a gang whose pipeline died: the next one hears of them and decides about them.

Serve has no way to ask a gang that is busy: a broadcast waits for a place beside its clip, as every
call does. So the gang asks. While it works it looks once a second whether the pipeline that sent
the clip lives (Ray keeps the answer in this process; only a death costs a call), and once that is
gone it tells the new one how far it is, once a second, and hands the latents over.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

import ray
from ray import serve

from cluster.logs import get_logger
from deployments.attempts import Item
from deployments.calls import Handle, ask
from deployments.deadlines import within
from deployments.ids import JobIds
from deployments.names import PIPELINE
from model.types import Latents, Step

logger = get_logger(__name__)

# Of clips that have ended: their pipeline may have died before it had the latents.
_MAX_KEPT = 2
_ANSWER_S = 10.0
_SERVE_NAMESPACE = "serve"


@dataclass
class HeldClip:
    """A clip that the gang works on or has just ended.

    Args:
        ids: Its names.
        caller: Name of the actor that sent it; empty where nobody knows, who then lives.
        newest: What was made last.
        is_over: Whether the gang has ended it.
    """

    ids: JobIds
    caller: str
    newest: Step | Latents | None = None
    is_over: bool = False


class Orphans:
    """Holds what a gang makes until it is known that somebody has it.

    Args:
        lives: Whether an actor lives, by its name.
        tell: Tells the pipeline of a clip; returns whether to go on with it.
        cancel: Ends a clip at its next step, by its work's name.
    """

    def __init__(
        self,
        lives: Callable[[str], Awaitable[bool]],
        tell: Callable[[str, Step | Latents | None], Awaitable[bool]],
        cancel: Callable[[str], object],
    ) -> None:
        self._lives = lives
        self._tell = tell
        self._cancel = cancel
        self._clips: OrderedDict[str, HeldClip] = OrderedDict()

    async def hold(
        self, ids: JobIds, caller: str, run: AsyncGenerator[Item, None]
    ) -> AsyncGenerator[Item, None]:
        """Yields what a run makes, and remembers the newest of it.

        Args:
            ids: Names of the clip.
            caller: Name of the actor that reads it.
            run: Denoises.
        """
        clip = self._clips[ids.work_id] = HeldClip(ids, caller)
        try:
            async with aclosing(run) as items:
                async for item in items:
                    if isinstance(item, (Step, Latents)):
                        clip.newest = item
                    yield item
        finally:
            clip.is_over = True
            self._forget(clip)

    async def look(self) -> None:
        """Tells of every clip whose pipeline is gone; ends those that nobody wants."""
        for clip in list(self._clips.values()):
            if clip.caller and not await self._lives(clip.caller):
                await self._offer(clip)

    async def _offer(self, clip: HeldClip) -> None:
        offered, work_id = clip.newest, clip.ids.work_id
        wanted = await self._tell(clip.ids.job_id, offered)
        if not wanted:
            logger.warning("orphan_ended", **clip.ids.log_fields())
            self._cancel(work_id)
        if not wanted or isinstance(offered, Latents):
            self._clips.pop(work_id, None)

    def _forget(self, clip: HeldClip) -> None:
        if not isinstance(clip.newest, Latents):
            self._clips.pop(clip.ids.work_id, None)
        ended = [name for name, each in self._clips.items() if each.is_over]
        for name in ended[:-_MAX_KEPT]:
            del self._clips[name]


def this_actor() -> str:
    """The name by which `actor_lives` knows the calling replica."""
    return str(ray.get_runtime_context().get_actor_name())


async def actor_lives(name: str) -> bool:
    """Whether a replica lives; in doubt it does."""
    try:
        await asyncio.to_thread(ray.get_actor, name, namespace=_SERVE_NAMESPACE)
    except ValueError:  # Ray's word for a name that nobody bears
        return False
    except Exception as error:  # the head does not answer: no reason to give up a clip
        logger.debug("actor_unknown", error=type(error).__name__)
    return True


async def tell_pipeline(job_id: str, newest: Step | Latents | None) -> bool:
    """Tells the pipeline that runs now of a clip whose own is gone.

    Returns:
        Whether to go on with it.

    Raises:
        StageTimeoutError: It does not answer.
    """
    application = serve.get_replica_context().app_name
    handle: Handle = await asyncio.to_thread(serve.get_app_handle, application)
    return bool(await within(ask(handle.hear_of, job_id, newest), _ANSWER_S, PIPELINE))
