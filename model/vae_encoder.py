"""The first frame of a clip, as the latent condition of the DiT."""

import numpy as np
import torch
from torch import Tensor

from model.checkpoint.layout import CheckpointPaths
from model.images import resize_image
from model.types import TEMPORAL_STRIDE, FirstFrame, Latents, UInt8Array, VideoShape
from model.vae import (
    LATENTS_PER_CHUNK,
    LatentScale,
    RunHalf,
    compile_half,
    first_settled_latent,
    load_encoder_half,
)
from model.vae_layers import channels_last
from model.vae_network import EncoderHalf


class VAEEncoder:
    """Encodes an image followed by grey frames, until the latents repeat.

    Args:
        half: The network, loaded.
        scale: Of its latents.
        num_distinct: Latent frames after which all are the same whatever the image.
        compiled: The same through torch.compile; None runs it as it is.
    """

    def __init__(
        self,
        half: EncoderHalf,
        scale: LatentScale,
        num_distinct: int,
        compiled: RunHalf | None = None,
    ) -> None:
        self._half = half
        self._run = half if compiled is None else compiled
        self._scale = scale
        self._num_distinct = num_distinct
        weight = half.quant_conv.weight
        self._device, self._dtype = weight.device, weight.dtype

    @classmethod
    def load(
        cls,
        checkpoint: CheckpointPaths,
        *,
        device: torch.device,
        dtype: torch.dtype,
        compiled: bool = False,
    ) -> "VAEEncoder":
        """Reads the encoding half of the VAE.

        Args:
            checkpoint: Where its weights lie.
            device: Where it runs.
            dtype: Of weights and arithmetic; published runs use float32.
            compiled: Run it through torch.compile; `warm_up` does so before the first clip.

        Raises:
            CheckpointError: The weights do not fit.
        """
        half, config = load_encoder_half(checkpoint, device=device, dtype=dtype)
        scale, num_distinct = LatentScale(config, device), first_settled_latent(config) + 1
        return cls(half, scale, num_distinct, compile_half(half) if compiled else None)

    def warm_up(self, height: int = 480, width: int = 832) -> None:
        """Encodes a short clip, so that no caller waits for the compiler.

        Args:
            height: Pixels; kernels are tuned for this size and serve all others too.
            width: Pixels, other than the height: were they equal, the graph would rely on it.
        """
        shape = VideoShape(1 + TEMPORAL_STRIDE * LATENTS_PER_CHUNK, height, width)
        self.encode(np.zeros((height, width, 3), np.uint8), shape)

    @torch.inference_mode()
    def encode_clip(self, pixels: Tensor) -> Latents:
        """Posterior means of a whole clip.

        Args:
            pixels: RGB [3, N, H, W] in [-1, 1], N = 4n+1.

        Returns:
            Normalised means [16, f, h, w].
        """
        clip = pixels.unsqueeze(0).to(self._device, self._dtype)
        latent, kept = self._half(channels_last(clip[:, :, :1]), ())
        latents = [latent]
        for chunk in clip[:, :, 1:].split(LATENTS_PER_CHUNK * TEMPORAL_STRIDE, dim=2):
            latent, kept = self._half(channels_last(chunk), kept)
            latents.append(latent)
        return Latents(self._scale.normalise(torch.cat(latents, dim=2))[0].cpu().numpy())

    @torch.inference_mode()
    def encode(self, image: UInt8Array, shape: VideoShape) -> FirstFrame:
        """Posterior means of the clip that starts with the image and goes on grey.

        Args:
            image: RGB [H, W, 3] of any size; it is resized to the clip's without a crop.
            shape: Size of the clip.

        Returns:
            Normalised means [16, f, h, w].
        """
        pixels = resize_image(image, shape.height, shape.width, self._device).unsqueeze(2)
        latent, kept = self._half(channels_last(pixels.to(self._dtype)), ())
        latents = [latent]
        size = (1, 3, LATENTS_PER_CHUNK * TEMPORAL_STRIDE, shape.height, shape.width)
        grey = channels_last(torch.zeros(size, device=self._device, dtype=self._dtype))
        for _ in range(1, min(shape.latent_frames, self._num_distinct), LATENTS_PER_CHUNK):
            latent, kept = self._run(grey, kept)
            latents.append(latent)
        latents += [latent[:, :, -1:]] * (shape.latent_frames - self._num_distinct)
        whole = torch.cat(latents, dim=2)[:, :, : shape.latent_frames]
        return FirstFrame(self._scale.normalise(whole)[0].cpu().numpy())
