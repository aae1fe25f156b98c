"""The first clips of a process: of nothing, so that whatever fails does so before a request."""

import numpy as np
import torch

from model.config import DiTConfig
from model.denoiser import Denoiser
from model.types import (
    LATENT_CHANNELS,
    CameraPath,
    DenoiseRequest,
    FirstFrame,
    ImageEmbeds,
    SamplerSettings,
    TextEmbeds,
    VideoShape,
)

# Large enough that the compiler's choices suit a real clip, a third of a second of work.
_GPU_SHAPES = (VideoShape(17, 480, 832), VideoShape(17, 448, 832))
_CPU_SHAPES = (VideoShape(5, 64, 64), VideoShape(5, 64, 80))


def warm_up(denoiser: Denoiser, *, device: torch.device, compiled: bool) -> None:
    """Denoises short clips with both experts, one step each, at two sizes if compiled.

    PyTorch takes the first size for the only one there is, and compiles for any with the second:
    after these two no request waits for a compiler.

    Args:
        denoiser: Loaded; all ranks of a gang call this together.
        device: Where it is.
        compiled: Whether its blocks run through torch.compile.
    """
    shapes = _GPU_SHAPES if device.type == "cuda" else _CPU_SHAPES
    for shape in shapes if compiled else shapes[:1]:
        for _ in denoiser.denoise(empty_clip(denoiser.experts.high_noise.config, shape)):
            pass


def empty_clip(config: DiTConfig, shape: VideoShape) -> DenoiseRequest:
    """A clip of zeros whose two steps are one of each expert."""
    text = TextEmbeds(np.zeros((1, config.text_dim), np.float32))
    latent = (LATENT_CHANNELS, shape.latent_frames, shape.latent_height, shape.latent_width)
    image = None
    if config.image_dim is not None:
        image = ImageEmbeds(np.zeros((1, config.image_dim), np.float32))
    poses = np.tile(np.eye(4), (shape.num_frames, 1, 1))
    intrinsics = np.array([[500.0, 500.0, 416.0, 240.0]])
    return DenoiseRequest(
        prompt=text,
        negative_prompt=text,
        first_frame=FirstFrame(np.zeros(latent, np.float32)),
        image=image,
        camera=CameraPath(poses, intrinsics),
        shape=shape,
        sampler=SamplerSettings(num_inference_steps=2),
        seed=0,
    )
