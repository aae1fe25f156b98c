"""Full-size weights without a checkpoint: drawn on the device, the same on every rank."""

import zlib

import torch
from torch import Tensor, nn

from model.checkpoint.shards import Shapes


class RandomSource:
    """A `TensorSource` whose tensors are drawn from their key, scaled so that values stay sane."""

    name = "random weights"

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self.shapes: Shapes = {
            key: tuple(value.shape) for key, value in module.state_dict().items()
        }
        self._device = device

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Tensor:
        shape = self.shapes[key]
        generator = torch.Generator(self._device).manual_seed(zlib.crc32(key.encode()))
        drawn = torch.randn(shape, generator=generator, device=self._device)
        if "norm" in key and key.endswith("weight"):
            return (1 + 0.1 * drawn)[start:stop]
        fan_in = drawn[0].numel() if len(shape) > 1 else 2500
        scaled: Tensor = (drawn / fan_in**0.5)[start:stop]
        return scaled
