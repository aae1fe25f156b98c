"""The first frame of a clip, as the latent condition of the DiT."""

from collections.abc import Iterator

import torch
from torch import Tensor

from model.checkpoint.layout import CheckpointPaths
from model.images import resize_image
from model.types import TEMPORAL_STRIDE, FirstFrame, UInt8Array, VideoShape
from model.vae import EncoderHalf, FeatureCache, LatentScale, load_encoder_half


class VAEEncoder:
    """Encodes an image followed by grey frames, chunk by chunk."""

    def __init__(self, half: EncoderHalf, scale: LatentScale, device: torch.device) -> None:
        self._half = half
        self._scale = scale
        self._device = device
        self._dtype = next(half.parameters()).dtype

    @classmethod
    def load(
        cls, checkpoint: CheckpointPaths, *, device: torch.device, dtype: torch.dtype
    ) -> "VAEEncoder":
        """Reads the encoding half of the VAE; published runs use float32.

        Raises:
            CheckpointError: The weights do not fit.
        """
        half, scale = load_encoder_half(checkpoint, device=device, dtype=dtype)
        return cls(half, scale, device)

    @torch.inference_mode()
    def encode(self, image: UInt8Array, shape: VideoShape) -> FirstFrame:
        """Posterior means of the clip that starts with the image and goes on grey.

        Args:
            image: RGB [H, W, 3] of any size; it is resized to the clip's without a crop.
            shape: Size of the clip.

        Returns:
            Normalised means [16, f, h, w].
        """
        cache = FeatureCache(self._half.encoder)
        latents = [self._half(chunk, cache) for chunk in self._chunks(image, shape)]
        latent = self._scale.normalise(torch.cat(latents, dim=2))
        return FirstFrame(latent[0].cpu().numpy())

    def _chunks(self, image: UInt8Array, shape: VideoShape) -> Iterator[Tensor]:
        pixels = resize_image(image, shape.height, shape.width, self._device)
        yield pixels.unsqueeze(2).to(self._dtype)
        size = (1, 3, TEMPORAL_STRIDE, shape.height, shape.width)
        grey = torch.zeros(size, device=self._device, dtype=self._dtype)
        for _ in range(shape.latent_frames - 1):
            yield grey
