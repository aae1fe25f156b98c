"""A clip's way to a gang: it waits for one that can take it, and knows when its own is lost."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from ray.exceptions import RayTaskError

from cluster.errors import GangDiedError, GangError
from cluster.logs import get_logger
from deployments.calls import Handle, blame, root_cause, stream
from deployments.deadlines import paced
from deployments.errors import StageDiedError, StageTimeoutError
from deployments.messages import Stage
from deployments.timeouts import DenoiseTimeouts
from model.types import Latents, SamplerState, Step

logger = get_logger(__name__)

# How soon a clip that a gang could not take asks again.
_ASK_AGAIN_S = 1.0
_STAGE = Stage.DENOISER.value


async def denoise(
    method: Handle, *args: object, timeouts: DenoiseTimeouts
) -> AsyncGenerator[Step | SamplerState | Latents, None]:
    """Denoises a clip on a gang that can take it.

    A gang that heals or is dead takes none, so the clip asks again until it meets another, or the
    healed one. What befalls a gang before it begins with the clip is not the clip's affair.

    Args:
        method: `DenoiserStage.denoise`.
        args: Its arguments.
        timeouts: Their sum is the longest that this takes without an item.

    Raises:
        GangError: The gang was lost with the clip on it.
        StageTimeoutError: No gang took the clip, or its owner hangs.
    """
    by_s = time.monotonic() + timeouts.queue_s
    while time.monotonic() < by_s:
        begun = False
        try:
            items = paced(stream(method, *args), timeouts.after, _STAGE)
            with blame(_STAGE):
                async with aclosing(items):
                    async for item in items:
                        begun = True
                        yield item
            return
        except StageDiedError as error:
            if begun:
                raise GangDiedError(str(error)) from error
            logger.warning("gang_refused", reason=str(error))
        except RayTaskError as error:
            if begun or not isinstance(root_cause(error), GangError):
                raise
            logger.info("gang_refused", reason=str(root_cause(error)))
        await asyncio.sleep(_ASK_AGAIN_S)
    raise StageTimeoutError(_STAGE, f"had no gang for the clip within {timeouts.queue_s:g} s")
