"""What it takes to make the same video again, written when it is made."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from deployments.messages import GenerateRequest, Stage
from deployments.pipeline_config import PipelineConfig
from model.checkpoint.fingerprint import Fingerprint
from model.types import DenoiserFacts

# What computes: another version of one of these may change a pixel.
_DISTRIBUTIONS = ("lingbot-serve", "torch", "ray", "diffusers", "transformers", "numpy", "av")
_TIMES = ("load_s", "warm_up_s", "start_s")


@dataclass(frozen=True, slots=True)
class Origin:
    """What makes all videos of a pipeline.

    Args:
        checkpoint: The weights.
        stages: Where and how precisely each stage but the gangs computes.
    """

    checkpoint: Fingerprint
    stages: Mapping[str, Mapping[str, Any]]


def origin_of(config: PipelineConfig, checkpoint: Fingerprint) -> Origin:
    """What makes all videos of a pipeline with these settings."""
    stages = (Stage.TEXT_ENCODER, Stage.IMAGE_ENCODER, Stage.VAE_ENCODER, Stage.VAE_DECODER)
    names = {"device", "dtype", "threads", "compiled"}
    dumped = {stage.value: getattr(config, stage.value) for stage in stages}
    return Origin(
        checkpoint, {name: dump.model_dump(include=names) for name, dump in dumped.items()}
    )


@cache
def versions() -> dict[str, str]:
    """Of what computes, as far as it is installed here."""
    found = {}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def record_of(
    request: GenerateRequest, origin: Origin, denoiser: DenoiserFacts | None
) -> dict[str, Any]:
    """The record of one video.

    Args:
        request: What was asked for, with every default filled in.
        origin: What made it.
        denoiser: The gang that made it; None where nobody knows any more.

    Returns:
        JSON. `request` has the fields of `POST /v1/videos`: sent again with the same files to a
        service of the same checkpoint, versions and settings, it makes the same video.
    """
    facts = None if denoiser is None else asdict(denoiser)
    return {
        "checkpoint": asdict(origin.checkpoint),
        "versions": dict(versions()),
        "denoiser": facts and {k: v for k, v in facts.items() if k not in _TIMES},
        "stages": {name: dict(settings) for name, settings in origin.stages.items()},
        "request": _fields(request),
        "inputs": _inputs(request),
    }


def _fields(request: GenerateRequest) -> dict[str, Any]:
    sampler = asdict(request.sampler)
    return {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "size": request.size,
        "num_frames": request.shape.num_frames,
        "seed": request.seed,
        "sampler": sampler.pop("solver").value,
        **sampler,
    }


def _inputs(request: GenerateRequest) -> dict[str, dict[str, Any]]:
    """Of the numbers, not of the files: a picture is the same as PNG and as WebP without loss."""
    arrays: dict[str, np.ndarray[Any, Any]] = {"image": request.image}
    if request.camera is not None:
        arrays |= {"poses": request.camera.poses, "intrinsics": request.camera.intrinsics}
    return {
        name: {
            "sha256": hashlib.sha256(array.tobytes()).hexdigest(),
            "shape": list(array.shape),
            "dtype": str(array.dtype),
        }
        for name, array in arrays.items()
    }
