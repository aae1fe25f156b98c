"""Uploaded images to tensors."""

import torch
import torch.nn.functional as F
from torch import Tensor

from model.types import UInt8Array


def resize_image(image: UInt8Array, height: int, width: int, device: torch.device) -> Tensor:
    """RGB uint8 [H, W, 3] to float32 [1, 3, height, width] about [-1, 1].

    Bicubic without a crop or antialiasing, so values overshoot a little, as published.
    """
    pixels = torch.tensor(image, device=device).permute(2, 0, 1).unsqueeze(0)
    centred = (pixels.float() / 255 - 0.5) / 0.5
    return F.interpolate(centred, size=(height, width), mode="bicubic", align_corners=False)
