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

SAMPLER = SamplerSettings(num_inference_steps=12, guidance_scale=2.0, guidance_scale_2=2.0)


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
        sampler: SamplerSettings = SAMPLER,
    ) -> None:
        dtype = torch.float32
        self._text = TextEncoder.load(checkpoint, device=device, dtype=dtype)
        self._image = ImageEncoder.load(checkpoint, device=device, dtype=dtype)
        self._vae_encoder = VAEEncoder.load(checkpoint, device=device, dtype=dtype)
        self._denoiser = Denoiser.load(checkpoint, device=device, dtype=dtype)
        self._vae_decoder = VAEDecoder.load(checkpoint, device=device, dtype=dtype)
        self._negative = self._text.encode(DEFAULT_NEGATIVE_PROMPT)
        self._sampler = sampler

    def make(self, take: Take, shape: VideoShape) -> UInt8Array:
        """One clip: uint8 [N, H, W, 3]."""
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
        return np.concatenate([f.pixels for f in self._vae_decoder.decode(latents)])

    def reconstruct(self, pixels_3NHW: Tensor) -> UInt8Array:
        """A clip through the VAE and back: uint8 [N, H, W, 3]."""
        latents = self._vae_encoder.encode_clip(pixels_3NHW)
        return np.concatenate([f.pixels for f in self._vae_decoder.decode(latents)])
