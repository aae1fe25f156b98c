"""The first clips of a process: of nothing, so that whatever fails does so before a request."""

from dataclasses import replace

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

# Large enough that the compiler's choices suit a real clip: 4,680 tokens.
_GPU_SHAPE = VideoShape(9, 480, 832)
_CPU_SHAPE = VideoShape(5, 64, 64)


def warm_up(denoiser: Denoiser, *, device: torch.device, compiled: bool) -> None:
    """Denoises short clips with both experts, after which no request waits for a compiler.

    Args:
        denoiser: Loaded; all ranks of a gang call this together.
        device: Where it is.
        compiled: Whether its blocks run through torch.compile; without a camera they take another
            way, which is compiled apart.
    """
    # One size for both: if it changed with the camera, PyTorch would compile that way twice.
    shape = _GPU_SHAPE if device.type == "cuda" else _CPU_SHAPE
    clip = empty_clip(denoiser.experts.high_noise.config, shape)
    for each in (clip, replace(clip, camera=None)) if compiled else (clip,):
        for _ in denoiser.denoise(each):
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
