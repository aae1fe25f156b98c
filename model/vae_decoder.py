"""Latents to frames, streamed."""

from collections.abc import Iterator

import torch
from torch import Tensor

from model.checkpoint.layout import CheckpointPaths
from model.types import Frames, Latents
from model.vae import DecoderHalf, FeatureCache, LatentScale, load_decoder_half


class VAEDecoder:
    """Decodes one latent frame at a time; memory does not grow with the clip."""

    def __init__(self, half: DecoderHalf, scale: LatentScale, device: torch.device) -> None:
        self._half = half
        self._scale = scale
        self._device = device
        self._dtype = next(half.parameters()).dtype

    @classmethod
    def load(
        cls, checkpoint: CheckpointPaths, *, device: torch.device, dtype: torch.dtype
    ) -> "VAEDecoder":
        """Reads the decoding half of the VAE; published runs use float32.

        Raises:
            CheckpointError: The weights do not fit.
        """
        half, scale = load_decoder_half(checkpoint, device=device, dtype=dtype)
        return cls(half, scale, device)

    def decode(self, latents: Latents) -> Iterator[Frames]:
        """Frames as they leave the decoder: 1 for the first latent frame, then 4 for each."""
        for pixels in self.decode_float(latents):
            yield quantise(pixels)

    @torch.inference_mode()
    def decode_float(self, latents: Latents) -> Iterator[Tensor]:
        """The same frames before rounding.

        Args:
            latents: Normalised [16, f, h, w].

        Yields:
            RGB [3, t, H, W] in [-1, 1] on the decoder's device, t = 1 and then 4.
        """
        cache = FeatureCache(self._half.decoder)
        for index in range(latents.values.shape[1]):
            frame = torch.tensor(latents.values[None, :, index : index + 1], device=self._device)
            restored = self._scale.restore(frame).to(self._dtype)
            yield self._half(restored, cache)[0].clamp(-1, 1)


@torch.inference_mode()
def quantise(pixels: Tensor) -> Frames:
    """RGB [3, t, H, W] in [-1, 1] to bytes, truncated as published."""
    scaled = ((pixels.float() + 1) / 2 * 255).to(torch.uint8)
    return Frames(scaled.permute(1, 2, 3, 0).contiguous().cpu().numpy())
