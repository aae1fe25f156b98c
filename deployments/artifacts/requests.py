"""A job's inputs as one safetensors file: arrays as tensors, the rest as its metadata."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from deployments.ids import JobIds
from deployments.messages import GenerateRequest
from model.types import CameraPath, SamplerSettings, Solver, VideoShape

_REQUEST_KEY = "request"
_LENGTH_BYTES = 8  # of the header, before it, little-endian


def pack_request(request: GenerateRequest) -> bytes:
    """The inputs of a job as a file."""
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
        "size": request.size,
    }
    return save(arrays, metadata={_REQUEST_KEY: json.dumps(scalars)})


def unpack_request(job_id: str, file: bytes) -> GenerateRequest:
    """The inputs that `pack_request` made a file of."""
    scalars = json.loads(metadata(file)[_REQUEST_KEY])
    arrays = load(file)
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


def metadata(file: bytes) -> dict[str, Any]:
    """Metadata of a file in memory, which safetensors gives only of files on disk."""
    length = int.from_bytes(file[:_LENGTH_BYTES], "little")
    header: dict[str, Any] = json.loads(file[_LENGTH_BYTES : _LENGTH_BYTES + length])
    metadata: dict[str, Any] = header["__metadata__"]
    return metadata
