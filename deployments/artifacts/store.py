"""Files of each job: its inputs until it has run, its results after."""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from deployments.ids import JobIds
from deployments.messages import GenerateRequest, VideoResult
from model.types import CameraPath, SamplerSettings, Solver, VideoShape

_REQUEST_KEY = "request"


class ArtifactStore:
    """A folder per job under `root/videos`.

    Args:
        root: The gateway's data folder; made if it is missing.
    """

    def __init__(self, root: Path) -> None:
        self._videos = root / "videos"
        self._videos.mkdir(parents=True, exist_ok=True)

    def video(self, job_id: str) -> Path:
        """Where a job's MP4 lies."""
        return self._videos / job_id / "video.mp4"

    def tensors(self, job_id: str) -> Path:
        """Where a job's latents and frames lie, if they were asked for."""
        return self._videos / job_id / "tensors.safetensors"

    def _inputs(self, job_id: str) -> Path:
        return self._videos / job_id / "inputs.safetensors"

    def write_request(self, request: GenerateRequest) -> None:
        """Keeps a waiting job's inputs on disk, so that neither memory nor a restart loses them."""
        path = self._inputs(request.job_id)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        arrays = {"image": np.ascontiguousarray(request.image)}
        if request.camera is not None:
            arrays["poses"] = np.ascontiguousarray(request.camera.poses)
            arrays["intrinsics"] = np.ascontiguousarray(request.camera.intrinsics)
        scalars = {
            "request_id": request.ids.request_id,
            "traceparent": request.ids.traceparent,
            "prompt": request.prompt,
            "negative_prompt": request.negative_prompt,
            "shape": asdict(request.shape),
            "sampler": asdict(request.sampler),
            "seed": request.seed,
            "return_tensors": request.return_tensors,
            "due_at_s": request.due_at_s,
        }
        save_file(arrays, path, metadata={_REQUEST_KEY: json.dumps(scalars)})

    def read_request(self, job_id: str) -> GenerateRequest:
        """The inputs that `write_request` kept."""
        with safe_open(self._inputs(job_id), framework="numpy") as file:
            scalars = json.loads(file.metadata()[_REQUEST_KEY])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        sampler = scalars.pop("sampler")
        camera = (
            CameraPath(poses=arrays["poses"], intrinsics=arrays["intrinsics"])
            if "poses" in arrays
            else None
        )
        return GenerateRequest(
            ids=JobIds(job_id, scalars.pop("request_id", ""), scalars.pop("traceparent", "")),
            image=arrays["image"],
            camera=camera,
            shape=VideoShape(**scalars.pop("shape")),
            sampler=SamplerSettings(**{**sampler, "solver": Solver(sampler["solver"])}),
            **scalars,
        )

    def write_result(self, job_id: str, result: VideoResult) -> None:
        """Stores the results and drops the inputs."""
        if result.latents is not None and result.frames is not None:
            arrays = {"latents": result.latents, "frames": result.frames}
            path = self.tensors(job_id)
            save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, path)
        partial = self.video(job_id).with_suffix(".partial")
        partial.write_bytes(result.mp4)
        os.replace(partial, self.video(job_id))
        self.drop_request(job_id)

    def drop_request(self, job_id: str) -> None:
        """Removes a job's inputs."""
        self._inputs(job_id).unlink(missing_ok=True)

    def delete(self, job_id: str) -> None:
        """Removes everything of a job."""
        shutil.rmtree(self._videos / job_id, ignore_errors=True)
