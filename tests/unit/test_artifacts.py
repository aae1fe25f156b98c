"""Files of a job: what goes in comes out."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from deployments.artifacts.store import ArtifactStore
from deployments.ids import JobIds
from deployments.messages import GenerateRequest, VideoResult
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


@pytest.mark.parametrize("with_camera", [True, False])
def test_inputs_survive_the_disk(tmp_path: Path, with_camera: bool) -> None:
    camera = CameraPath(poses=np.tile(np.eye(4), (9, 1, 1)), intrinsics=np.ones((1, 4)) * 400)
    kept = request(camera if with_camera else None)
    ArtifactStore(tmp_path).write_request(kept)
    read = ArtifactStore(tmp_path).read_request("video_1")
    np.testing.assert_array_equal(read.image, kept.image)
    assert (read.camera is None) == (kept.camera is None)
    if read.camera is not None:
        np.testing.assert_array_equal(read.camera.poses, camera.poses)
        np.testing.assert_array_equal(read.camera.intrinsics, camera.intrinsics)
    for name in ("ids", "prompt", "negative_prompt", "shape", "sampler", "seed", "return_tensors"):
        assert getattr(read, name) == getattr(kept, name)


def test_results_replace_the_inputs(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    store.write_request(request(None))
    latents = np.ones((16, 3, 8, 12), np.float32)
    frames = np.zeros((9, 64, 96, 3), np.uint8)
    store.write_result("video_1", VideoResult(b"mp4", latents, frames))
    assert store.video("video_1").read_bytes() == b"mp4"
    np.testing.assert_array_equal(load_file(store.tensors("video_1"))["latents"], latents)
    names = sorted(path.name for path in store.video("video_1").parent.iterdir())
    assert names == ["tensors.safetensors", "video.mp4"]
    store.delete("video_1")
    assert not store.video("video_1").parent.exists()
