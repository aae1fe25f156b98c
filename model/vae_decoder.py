"""Latents to frames, streamed."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from model.checkpoint.layout import CheckpointPaths
from model.types import (
    LATENT_CHANNELS,
    SPATIAL_STRIDE,
    TEMPORAL_STRIDE,
    FloatArray,
    Frames,
    Latents,
)
from model.vae import (
    LATENTS_PER_CHUNK,
    LatentScale,
    RunHalf,
    compile_half,
    load_decoder_half,
)
from model.vae_layers import channels_last
from model.vae_network import DecoderHalf


class VAEDecoder:
    """Decodes a few latent frames at a time; memory does not grow with the clip.

    Args:
        half: The network, loaded.
        scale: Of its latents.
        compiled: The same through torch.compile; None runs it as it is.
    """

    def __init__(
        self, half: DecoderHalf, scale: LatentScale, compiled: RunHalf | None = None
    ) -> None:
        self._half = half
        self._compiled = compiled
        self._scale = scale
        weight = half.post_quant_conv.weight
        self._device, self._dtype = weight.device, weight.dtype

    @classmethod
    def load(
        cls,
        checkpoint: CheckpointPaths,
        *,
        device: torch.device,
        dtype: torch.dtype,
        compiled: bool = False,
    ) -> "VAEDecoder":
        """Reads the decoding half of the VAE.

        Args:
            checkpoint: Where its weights lie.
            device: Where it runs.
            dtype: Of weights and arithmetic; published runs use float32.
            compiled: Run it through torch.compile; `warm_up` does so before the first clip.

        Raises:
            CheckpointError: The weights do not fit.
        """
        half, config = load_decoder_half(checkpoint, device=device, dtype=dtype)
        return cls(half, LatentScale(config, device), compile_half(half) if compiled else None)

    def warm_up(self, height: int = 480, width: int = 832) -> None:
        """Decodes a short clip, so that no caller waits for the compiler.

        Args:
            height: Pixels; kernels are tuned for this size and serve all others too.
            width: Pixels, other than the height: were they equal, the graph would rely on it.
        """
        latent = (1 + LATENTS_PER_CHUNK, height // SPATIAL_STRIDE, width // SPATIAL_STRIDE)
        for _ in self.decode(Latents(np.zeros((LATENT_CHANNELS, *latent), np.float32))):
            pass

    def decode(self, latents: Latents) -> Iterator[Frames]:
        """Frames as they leave the decoder: 1 for the first latent frame, then 4 for each.

        A GPU computes the next frames while the ones before are on their way to the host.
        """
        under_way: _Download | None = None
        for pixels in self.decode_float(latents):
            started = _Download(to_bytes(pixels))
            if under_way is not None:
                yield under_way.frames()
            under_way = started
        if under_way is not None:
            yield under_way.frames()

    @torch.inference_mode()
    def decode_float(self, latents: Latents) -> Iterator[Tensor]:
        """The same frames before rounding.

        Args:
            latents: Normalised [16, f, h, w].

        Yields:
            RGB [3, t, H, W] in [-1, 1] on the decoder's device, t = 1 and then a multiple of 4.
        """
        run = self._half if self._compiled is None else self._compiled
        # The first latent frame has no past: a graph of its own, not worth compiling.
        pixels, kept = self._half(self._chunk(latents.values[:, :1]), ())
        yield pixels[0].clamp(-1, 1)
        for start in range(1, latents.values.shape[1], LATENTS_PER_CHUNK):
            values = latents.values[:, start : start + LATENTS_PER_CHUNK]
            num_latents = values.shape[1]
            if (
                self._compiled is not None
            ):  # for one length only; nothing before a frame depends on it
                padding = ((0, 0), (0, LATENTS_PER_CHUNK - num_latents), (0, 0), (0, 0))
                values = np.pad(values, padding, mode="edge")
            pixels, kept = run(self._chunk(values), kept)
            yield pixels[0, :, : TEMPORAL_STRIDE * num_latents].clamp(-1, 1)

    def _chunk(self, values: FloatArray) -> Tensor:
        raw = self._scale.restore(torch.tensor(values[None], device=self._device))
        return channels_last(raw.to(self._dtype))


class _Download:
    """Bytes of frames on their way to the host.

    Args:
        pixels: Uint8 [t, H, W, 3].
    """

    def __init__(self, pixels: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._host = pixels
        if pixels.is_cuda:
            self._host = torch.empty(pixels.shape, dtype=pixels.dtype, pin_memory=True)
            self._host.copy_(pixels, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def frames(self) -> Frames:
        """The frames, once they have arrived."""
        if self._event is not None:
            self._event.synchronize()
        return Frames(self._host.numpy())


@torch.inference_mode()
def to_bytes(pixels: Tensor) -> Tensor:
    """RGB [3, t, H, W] in [-1, 1] to uint8 [t, H, W, 3], truncated as published."""
    scaled = ((pixels.float() + 1) / 2 * 255).to(torch.uint8)
    return scaled.permute(1, 2, 3, 0).contiguous()
