"""The canary: a tiny job from end to end, as a customer would send it."""

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
from PIL import Image

from lingbot_serve.client.inputs import VideoOptions
from lingbot_serve.client.sync import Client
from lingbot_serve.errors import VideoFailedError
from model.types import UInt8Array

# What the gateway counts such jobs under.
ORIGIN = "canary"
# The smallest clip that still has two latent frames and a step between two others.
_SIZE, _NUM_FRAMES, _STEPS = (64, 64), 5, 2
_PROMPT = "a canary"


@dataclass(frozen=True, slots=True)
class Sighting:
    """A canary that came back.

    Args:
        seconds: From sending the request to holding the whole video.
        num_frames: Frames that were decoded from it.
    """

    seconds: float
    num_frames: int


def send_canary(address: str, *, api_key: str | None = None, timeout_s: float) -> Sighting:
    """Makes one tiny clip, decodes every frame of it, and removes it again.

    Args:
        address: Of the gateway.
        api_key: For it, where it asks for one.
        timeout_s: From sending the request to the video's end; one that takes longer is cancelled.

    Raises:
        ApiError: The server refused the request.
        VideoFailedError: The clip failed, or is not the video that was asked for.
        WaitTimeoutError: It took too long.
        ServerUnreachableError: No answer.
    """
    start_s = time.monotonic()
    with TemporaryDirectory(prefix="lingbot-canary-") as folder:
        image, video = Image.fromarray(_gradient()), Path(folder, "clip.mp4")
        with Client(address, api_key=api_key, origin=ORIGIN) as client:
            job = client.generate(image=image, prompt=_PROMPT, **_options())
            try:
                job.wait(timeout_s=start_s + timeout_s - time.monotonic())
                job.save(video)
            finally:
                job.delete()
        num_frames = _decode(video)
    return Sighting(time.monotonic() - start_s, num_frames)


def _options() -> VideoOptions:
    width, height = _SIZE
    return VideoOptions(
        size=f"{width}x{height}", num_frames=_NUM_FRAMES, num_inference_steps=_STEPS, seed=0
    )


def _decode(path: Path) -> int:
    """Decodes a file's frames, all of them, and counts them."""
    try:
        with av.open(str(path)) as file:
            num_frames = sum(1 for _ in file.decode(video=0))
    except av.FFmpegError as error:
        raise VideoFailedError("canary_invalid", f"the video cannot be played: {error}") from error
    if num_frames != _NUM_FRAMES:
        problem = f"the video has {num_frames} frames instead of {_NUM_FRAMES}"
        raise VideoFailedError("canary_invalid", problem)
    return num_frames


def _gradient() -> UInt8Array:
    width, height = _SIZE
    columns = np.linspace(0, 255, width, dtype=np.uint8)
    return np.ascontiguousarray(np.broadcast_to(columns[None, :, None], (height, width, 3)))
