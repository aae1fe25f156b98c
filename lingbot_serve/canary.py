"""The canary: a tiny job from end to end, as a customer would send it."""

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
from PIL import Image

from lingbot_serve.client import VideoClient, VideoOptions, VideoRequest, require_completed
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


def send_canary(address: str, *, timeout_s: float) -> Sighting:
    """Makes one tiny clip, decodes every frame of it, and removes it again.

    Args:
        address: Of the gateway.
        timeout_s: From sending the request to the video's end; one that takes longer is cancelled.

    Raises:
        ApiError: The server refused the request.
        VideoFailedError: The clip failed, took too long, or is not the video that was asked for.
        ServerUnreachableError: No answer.
    """
    start_s = time.monotonic()
    with TemporaryDirectory(prefix="lingbot-canary-") as folder:
        image, video = Path(folder, "first.png"), Path(folder, "clip.mp4")
        Image.fromarray(_gradient()).save(image)
        with VideoClient(address, origin=ORIGIN) as client:
            video_id = client.create(VideoRequest(_PROMPT, image, options=_options())).id
            try:
                _wait(client, video_id, deadline_s=start_s + timeout_s)
                client.download(video_id, video)
            finally:
                client.delete(video_id)
        num_frames = _decode(video)
    return Sighting(time.monotonic() - start_s, num_frames)


def _options() -> VideoOptions:
    width, height = _SIZE
    return VideoOptions(
        size=f"{width}x{height}", num_frames=_NUM_FRAMES, num_inference_steps=_STEPS, seed=0
    )


def _wait(client: VideoClient, video_id: str, *, deadline_s: float) -> None:
    for video in client.watch(video_id):
        if video.is_over:
            require_completed(video)
        elif time.monotonic() > deadline_s:
            raise VideoFailedError("canary_timeout", f"still {video.status} at {video.stage}")


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
