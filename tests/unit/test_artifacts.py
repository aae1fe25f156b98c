"""Files of a job: what goes in comes out."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load

from deployments.artifacts.objects import Objects
from deployments.artifacts.store import ArtifactStore
from deployments.ids import JobIds
from deployments.messages import GenerateRequest, VideoResult
from deployments.stills import Stills
from model.types import CameraPath, SamplerSettings, Solver, VideoShape


def request(camera: CameraPath | None) -> GenerateRequest:
    return GenerateRequest(
        ids=JobIds("video_1", "req-1"),
        prompt="ein Haus am Meer, 画面",
        negative_prompt="",
        image=np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3),
        camera=camera,
        shape=VideoShape(num_frames=9, height=64, width=96),
        sampler=SamplerSettings(num_inference_steps=3, solver=Solver.DPMPP),
        seed=2**63 - 1,
        return_tensors=True,
    )


def store_in(folder: Path, *, expire_after_s: float | None = None) -> ArtifactStore:
    return ArtifactStore(Objects(folder.as_uri()), expire_after_s=expire_after_s)


@pytest.mark.parametrize("with_camera", [True, False])
def test_inputs_survive_the_store(tmp_path: Path, with_camera: bool) -> None:
    camera = CameraPath(poses=np.tile(np.eye(4), (9, 1, 1)), intrinsics=np.ones((1, 4)) * 400)
    kept = request(camera if with_camera else None)
    store_in(tmp_path).write_request(kept)
    read = store_in(tmp_path).read_request("video_1")
    np.testing.assert_array_equal(read.image, kept.image)
    assert (read.camera is None) == (kept.camera is None)
    if read.camera is not None:
        np.testing.assert_array_equal(read.camera.poses, camera.poses)
        np.testing.assert_array_equal(read.camera.intrinsics, camera.intrinsics)
    for name in ("ids", "prompt", "negative_prompt", "shape", "sampler", "seed", "return_tensors"):
        assert getattr(read, name) == getattr(kept, name)


def test_results_are_described_as_they_lie(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    latents = np.ones((16, 3, 8, 12), np.float32)
    frames = np.zeros((9, 64, 96, 3), np.uint8)
    stills = Stills(thumbnail=b"webp", last_frame=b"png")
    result = VideoResult(b"mp4", latents, frames, stills, seconds=0.5625)
    written = store.write_result("video_1", 2, result)
    assert written["expires_at"] is None
    artifacts = written["artifacts"]
    seconds = {variant: entry["seconds"] for variant, entry in artifacts.items()}
    assert seconds == {"video": 0.5625, "thumbnail": None, "last_frame": None, "tensors": None}
    assert artifacts["video"]["media_type"] == "video/mp4"
    assert artifacts["thumbnail"]["media_type"] == "image/webp"
    for entry in artifacts.values():
        content = store.objects.get(entry["name"])
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["bytes"] == len(content)
    np.testing.assert_array_equal(
        load(store.objects.get(artifacts["tensors"]["name"]))["latents"], latents
    )
    store.delete("video_1")
    assert list(store.objects.list()) == []


def test_an_attempt_that_is_late_leaves_the_winner_alone(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    winner = store.write_result("video_1", 2, VideoResult(b"winner", None, None))
    store.write_result("video_1", 1, VideoResult(b"late", None, None))
    assert store.objects.get(winner["artifacts"]["video"]["name"]) == b"winner"


def test_results_know_when_they_expire(tmp_path: Path) -> None:
    store = store_in(tmp_path, expire_after_s=60)
    first = store.write_result("video_1", 1, VideoResult(b"mp4", None, None))
    second = store.write_result("video_1", 1, VideoResult(b"mp4", None, None))
    assert 1e9 < first["expires_at"] <= second["expires_at"]
