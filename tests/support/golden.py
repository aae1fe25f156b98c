"""The golden case: one request, and what the published code made of it (tests/golden/README.md)."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.geometry import resolve_shape
from model.types import CameraPath, DenoiseRequest, FirstFrame, SamplerSettings, TextEmbeds


def golden_results(golden: Path) -> dict[str, Tensor]:
    """What the published code computed, by name."""
    with np.load(golden / "case/expected.npz") as results:
        return {name: torch.from_numpy(values) for name, values in results.items()}


def golden_request(golden: Path) -> DenoiseRequest:
    """The request as the denoiser gets it, with the published code's text and first frame."""
    case = json.loads((golden / "case/case.json").read_text())
    results = golden_results(golden)
    camera = CameraPath(np.load(golden / "case/poses.npy"), np.load(golden / "case/intrinsics.npy"))
    return DenoiseRequest(
        prompt=TextEmbeds(results["context"].numpy()),
        negative_prompt=TextEmbeds(results["context_null"].numpy()),
        first_frame=FirstFrame(results["y"][4:].numpy()),
        image=None,
        camera=camera,
        shape=resolve_shape(
            area=case["max_area"],
            image_height=480,
            image_width=832,
            num_frames=case["frames"],
            num_poses=len(camera.poses),
        ),
        sampler=SamplerSettings(num_inference_steps=case["sampling_steps"]),
        seed=case["seed"],
    )
