"""The first frame to CLIP features, for DiTs that have the image branch."""

import copy

import torch
from torch import Tensor, nn
from transformers import CLIPVisionModel

from model.checkpoint.image_encoder import VisionTower, open_vision_tower
from model.checkpoint.layout import CheckpointPaths
from model.checkpoint.load import load_module
from model.images import resize_image
from model.types import ImageEmbeds, UInt8Array

# CLIP's training statistics, for RGB in [0, 1].
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


class ImageEncoder:
    """A CLIP vision tower without its last layer, as Wan2.1 uses it."""

    def __init__(self, model: nn.Module, image_size: int, device: torch.device) -> None:
        self._model = model
        self._image_size = image_size
        self._device = device
        self._dtype = next(model.parameters()).dtype

    @classmethod
    def load(
        cls, checkpoint: CheckpointPaths, *, device: torch.device, dtype: torch.dtype
    ) -> "ImageEncoder":
        """Builds the tower from a checkpoint; published runs use float16.

        Raises:
            CheckpointError: The checkpoint has no CLIP, or its weights do not fit.
        """
        tower = open_vision_tower(checkpoint)
        model = _without_last_layer(tower).to(dtype)
        load_module(
            model,
            tower.source,
            tower.key_of,
            device=device,
            ignored=tower.ignored,
            constants=_position_ids(model),
        )
        return cls(model, tower.image_size, device)

    @torch.inference_mode()
    def encode(self, image: UInt8Array) -> ImageEmbeds:
        """Features after the last but one layer, not normalised.

        Args:
            image: RGB [H, W, 3] of any size; it is squeezed to a square without a crop.

        Returns:
            Class token and patches [257, 1280] (fewer or narrower for a smaller tower).
        """
        pixels = self._preprocess(image).to(self._dtype)
        hidden = self._model(pixel_values=pixels).last_hidden_state
        return ImageEmbeds(hidden[0].float().cpu().numpy())

    def _preprocess(self, image: UInt8Array) -> Tensor:
        return normalise_for_clip(
            resize_image(image, self._image_size, self._image_size, self._device)
        )


def normalise_for_clip(pixels: Tensor) -> Tensor:
    """RGB [B, 3, H, W] about [-1, 1] by the statistics that CLIP was trained with."""
    mean = torch.tensor(_MEAN, device=pixels.device).view(1, 3, 1, 1)
    std = torch.tensor(_STD, device=pixels.device).view(1, 3, 1, 1)
    return (pixels * 0.5 + 0.5 - mean) / std


def _without_last_layer(tower: VisionTower) -> nn.Module:
    config = copy.deepcopy(tower.config)
    config.num_hidden_layers -= 1
    with torch.device("meta"):
        model: nn.Module = CLIPVisionModel(config)
    return model


def _position_ids(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: torch.arange(buffer.shape[-1]).expand(buffer.shape)
        for name, buffer in model.named_buffers()
        if name.endswith("position_ids")
    }
