"""All stages of a checkpoint in one process, as the server runs them one after the other."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.checkpoint.layout import CheckpointPaths
from model.denoiser import Denoiser
from model.image_encoder import ImageEncoder
from model.prompts import DEFAULT_NEGATIVE_PROMPT
from model.text_encoder import TextEncoder
from model.types import (
    CameraPath,
    DenoiseRequest,
    Latents,
    SamplerSettings,
    UInt8Array,
    VideoShape,
)
from model.vae_decoder import VAEDecoder
from model.vae_encoder import VAEEncoder


def sampler(num_steps: int, guidance: float) -> SamplerSettings:
    """Published settings but for the number of steps and the guidance of both experts."""
    return SamplerSettings(
        num_inference_steps=num_steps, guidance_scale=guidance, guidance_scale_2=guidance
    )


@dataclass(frozen=True, slots=True)
class Take:
    """What to make.

    Args:
        image: First frame, RGB [H, W, 3].
        prompt: What to show.
        camera: Where to go.
        seed: Of the noise.
    """

    image: UInt8Array
    prompt: str
    camera: CameraPath
    seed: int


@dataclass(frozen=True, slots=True)
class Made:
    """A clip that was made.

    Args:
        frames: uint8 [N, H, W, 3].
        is_finite: Whether its latents were all numbers; bytes would not tell.
    """

    frames: UInt8Array
    is_finite: bool


class Studio:
    """Makes clips.

    Args:
        checkpoint: What with.
        device: Where.
        sampler: How.
    """

    def __init__(
        self,
        checkpoint: CheckpointPaths,
        *,
        device: torch.device,
        sampler: SamplerSettings,
    ) -> None:
        dtype = torch.float32
        self._text = TextEncoder.load(checkpoint, device=device, dtype=dtype)
        self._image = ImageEncoder.load(checkpoint, device=device, dtype=dtype)
        self._vae_encoder = VAEEncoder.load(checkpoint, device=device, dtype=dtype)
        self._denoiser = Denoiser.load(checkpoint, device=device, dtype=dtype)
        self._vae_decoder = VAEDecoder.load(checkpoint, device=device, dtype=dtype)
        self._negative = self._text.encode(DEFAULT_NEGATIVE_PROMPT)
        self._sampler = sampler

    def make(self, take: Take, shape: VideoShape) -> Made:
        """One clip."""
        request = DenoiseRequest(
            prompt=self._text.encode(take.prompt),
            negative_prompt=self._negative,
            first_frame=self._vae_encoder.encode(take.image, shape),
            image=self._image.encode(take.image),
            camera=take.camera,
            shape=shape,
            sampler=self._sampler,
            seed=take.seed,
        )
        *_, latents = self._denoiser.denoise(request)
        assert isinstance(latents, Latents)
        frames = np.concatenate([f.pixels for f in self._vae_decoder.decode(latents)])
        return Made(frames, bool(np.isfinite(latents.values).all()))

    def reconstruct(self, pixels_3NHW: Tensor) -> UInt8Array:
        """A clip through the VAE and back: uint8 [N, H, W, 3]."""
        latents = self._vae_encoder.encode_clip(pixels_3NHW)
        return np.concatenate([f.pixels for f in self._vae_decoder.decode(latents)])
