"""A service under test: addresses, small inputs, and waiting for jobs."""

import base64
import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from deployments.config import ServeConfig
from deployments.jobs.store import JobStore

# For what comes at once on a machine of one's own; waits end as soon as it is there.
PATIENCE_S = 240.0
START_PATIENCE_S = 480.0  # the same for a service's start


@dataclass(frozen=True)
class Server:
    """A running service and the configuration it runs with."""

    url: str
    config: ServeConfig

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=120)


def small_config(checkpoint: Path, data_dir: Path, *, port: int, gang_size: int) -> ServeConfig:
    """Everything on the CPU, small limits so that tests can reach them."""
    stage = {"num_cpus": 0.2, "threads": 1}
    gang = {"size": gang_size, "cpus_per_rank": 0.2, "controller_cpus": 0.1, "threads_per_rank": 1}
    return ServeConfig.model_validate(
        {
            "pipeline": {
                "checkpoint": checkpoint,
                "text_encoder": stage,
                "image_encoder": stage,
                "vae_encoder": stage,
                "vae_decoder": stage,
                "denoiser": {"gang": gang, "checkpoint_every_steps": 20},
            },
            "gateway": {
                "data_dir": data_dir,
                "preset": "cpu-small",
                "defaults": {"num_frames": 9, "num_inference_steps": 3},
                "limits": {
                    "max_area": 112 * 64,
                    "max_num_frames": 81,
                    "max_inference_steps": 1000,
                    "max_poses": 200,
                    "max_body_bytes": 2**20,
                    "body_timeout_s": 5,
                    "max_image_pixels": 200_000,
                    "max_queued_jobs": 2,
                },
                "max_concurrent_jobs": 2,
                "lease_s": 3,
                "events": {"max_stream_s": 3},
                "drain_timeout_s": 120,
            },
            "http": {"port": port},
        }
    )


def picture(width: int = 96, height: int = 56, *, kind: str = "PNG", **options: Any) -> bytes:
    """A small image file with a gradient in it."""
    columns = np.linspace(0, 255, width, dtype=np.uint8)
    pixels = np.broadcast_to(columns[None, :, None], (height, width, 3))
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, kind, **options)
    return file.getvalue()


def data_url(image: bytes, kind: str = "png") -> str:
    """An image as the API takes it inside JSON."""
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def camera(num_poses: int) -> dict[str, Any]:
    """A path that moves forward."""
    poses = np.tile(np.eye(4), (num_poses, 1, 1))
    poses[:, 2, 3] = np.arange(num_poses) * 0.1
    return {"poses": poses.tolist(), "intrinsics": [[500.0, 500.0, 416.0, 240.0]]}


def body(**fields: Any) -> dict[str, Any]:
    """A JSON body that the API accepts, with fields laid over it."""
    whole = {
        "prompt": "a house by the sea",
        "input_reference": {"image_url": data_url(picture())},
        "seed": 7,
        **fields,
    }
    return {name: value for name, value in whole.items() if value is not None}


def wait_for(
    client: httpx.Client, video_id: str, *, timeout_s: float = PATIENCE_S
) -> dict[str, Any]:
    """Polls a video until it is over."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        video: dict[str, Any] = client.get(f"/v1/videos/{video_id}").json()
        if video["status"] in ("completed", "failed"):
            return video
        time.sleep(0.05)
    raise TimeoutError(f"{video_id} is {video['status']} at {video['stage']}")


def wait_for_step(
    client: httpx.Client, video_id: str, *, at_least: int = 1, timeout_s: float = PATIENCE_S
) -> dict[str, Any]:
    """Polls a video until its gang has finished a step, or so many."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        video: dict[str, Any] = client.get(f"/v1/videos/{video_id}").json()
        if video["stage"] == "denoiser" and (video["step"] or 0) >= at_least:
            return video
        assert video["status"] in ("queued", "in_progress"), video
        time.sleep(0.02)
    raise TimeoutError(f"{video_id} never denoised: {video}")


def wait_until_struck(client: httpx.Client, video_id: str) -> None:
    """Returns once the attempt that had come to its steps is over.

    That the video waits for the next may pass between two looks; the next has no step yet.
    """
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        video = client.get(f"/v1/videos/{video_id}").json()
        if video["status"] != "in_progress" or not video["step"]:
            return
        time.sleep(0.02)
    raise TimeoutError(f"{video_id} goes on: {video}")


def wait_for_attempt(
    jobs: JobStore, job_id: str, attempt: int, *, timeout_s: float = PATIENCE_S
) -> None:
    """Returns once a job has been claimed so many times."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        job = jobs.get(job_id)
        if job.attempts >= attempt:
            return
        assert not job.is_over, (job.error_code, job.error_message)
        time.sleep(0.02)
    raise TimeoutError(f"{job_id} is at attempt {job.attempts}")
