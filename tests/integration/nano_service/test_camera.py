"""The camera does what a request says, judged by the renderer on a world that nobody trained on."""

import io
from typing import Any

import av
import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from model.nano.clips import HELD_OUT_FROM, SHAPE, Clip, show
from model.nano.frames import psnr, truth
from model.nano.paths import Motion, camera_path, walk
from model.nano.world import World, draw_world
from model.types import UInt8Array
from tests.support.command_line import ServeProcess
from tests.support.server import body, data_url, wait_for

WORLD = HELD_OUT_FROM + 42
TURNS_PER_S = {"left": -10.0, "right": 10.0}  # degrees


@pytest.fixture(scope="module")
def truths() -> dict[str, Clip]:
    """One world from one place, looked around to the left and to the right."""
    world: World = draw_world(WORLD, walk(Motion(), SHAPE.num_frames))
    world = world.turning(world.before)  # the text says nothing that would not be seen at once
    return {
        side: show(world, Motion(yaw=yaw), SHAPE, device=torch.device("cpu"))
        for side, yaw in TURNS_PER_S.items()
    }


def made(client: httpx.Client, clip: Clip, prompt: str) -> UInt8Array:
    """The frames of the video that the service makes of a clip's first frame and path."""
    video = client.post("/v1/videos", json=body(prompt=prompt, **request_of(clip))).json()
    assert wait_for(client, video["id"])["status"] == "completed"
    content = client.get(f"/v1/videos/{video['id']}/content").content
    with av.open(io.BytesIO(content)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def request_of(clip: Clip) -> dict[str, Any]:
    file = io.BytesIO()
    Image.fromarray(truth(clip)[0]).save(file, "PNG")
    camera = camera_path(clip.motion, SHAPE.num_frames)
    return {
        "input_reference": {"image_url": data_url(file.getvalue())},
        "camera": {"poses": camera.poses.tolist(), "intrinsics": camera.intrinsics.tolist()},
    }


def test_each_video_shows_its_own_path_rather_than_the_other(
    server: ServeProcess, truths: dict[str, Clip]
) -> None:
    frames = {side: truth(clip) for side, clip in truths.items()}
    np.testing.assert_array_equal(frames["left"][0], frames["right"][0])
    prompt = truths["left"].caption  # the words are no hint
    with httpx.Client(base_url=server.url, timeout=120) as client:
        videos = {side: made(client, clip, prompt) for side, clip in truths.items()}
    for side, other in (("left", "right"), ("right", "left")):
        assert videos[side].shape == frames[side].shape
        assert psnr(videos[side], frames[side]) > psnr(videos[side], frames[other])
