"""The VAE for clips whole in memory, as training and encoding have them."""

import math

import torch
from torch import Tensor, nn

from model.nano.sizes import NanoSize
from model.vae_layers import AttentionBlock, CausalConv3d, ResidualBlock, channels_last
from model.vae_network import DecoderHalf, EncoderHalf


class VAE(nn.Module):
    """The two halves of a VAE of the Wan 2.1 shape."""

    def __init__(self, size: NanoSize) -> None:
        super().__init__()
        self.encoder = EncoderHalf(size.vae)
        self.decoder = DecoderHalf(size.vae)
        self.apply(_as_strong_as_it_came)
        self.apply(_straight_way_alone)

    def encode(self, pixels_B3NHW: Tensor) -> Tensor:
        """Raw latents [B, 16, f, h, w] of pixels in [-1, 1]."""
        first: Tensor
        first, kept = self.encoder(channels_last(pixels_B3NHW[:, :, :1]), ())
        if pixels_B3NHW.shape[2] == 1:
            return first
        rest, _ = self.encoder(channels_last(pixels_B3NHW[:, :, 1:]), kept)
        return torch.cat([first, rest], dim=2)

    def decode(self, latent_BCfhw: Tensor) -> Tensor:
        """Pixels [B, 3, N, H, W] about [-1, 1] of raw latents."""
        first: Tensor
        first, kept = self.decoder(channels_last(latent_BCfhw[:, :, :1]), ())
        if latent_BCfhw.shape[2] == 1:
            return first
        rest, _ = self.decoder(channels_last(latent_BCfhw[:, :, 1:]), kept)
        return torch.cat([first, rest], dim=2)


def _as_strong_as_it_came(layer: nn.Module) -> None:
    """PyTorch's own start weakens what passes and adds biases; ten layers on these are left.

    Of the past nothing is seen at first (inflated images, arXiv 2310.05737): what many layers see
    together reaches further back than a training clip, and there chance would stay.
    """
    if isinstance(layer, nn.Conv2d | nn.Conv3d):
        weight = layer.weight.detach()
        if isinstance(layer, CausalConv3d):
            weight = nn.init.zeros_(weight)[:, :, -1]
        nn.init.kaiming_normal_(weight, nonlinearity="linear")
        assert layer.bias is not None
        nn.init.zeros_(layer.bias)


def _straight_way_alone(layer: nn.Module) -> None:
    """Blocks begin as what goes beside them."""
    if isinstance(layer, ResidualBlock):
        nn.init.zeros_(layer.conv2.weight)
    if isinstance(layer, AttentionBlock):
        nn.init.zeros_(layer.proj.weight)


def psnr_of(squared_error: float) -> float:
    """dB, of the mean squared error of pixels in [-1, 1]."""
    return 10 * math.log10(4.0 / max(squared_error, 1e-12))
