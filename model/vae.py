"""The two halves of the causal Wan2.1 VAE, each fed chunk by chunk with its feature cache."""

from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan, WanCausalConv3d
from torch import Tensor, nn

from model.checkpoint.layout import CheckpointPaths, Layout
from model.checkpoint.load import load_module
from model.checkpoint.vae import VAEConfig, open_vae, published_vae_key, read_vae_config
from model.types import LATENT_CHANNELS


class FeatureCache:
    """The last frames each causal convolution has seen; carry it from chunk to chunk of a clip."""

    def __init__(self, module: nn.Module) -> None:
        convolutions = sum(isinstance(child, WanCausalConv3d) for child in module.modules())
        self._features: list[Any] = [None] * convolutions

    @property
    def is_empty(self) -> bool:
        """True until the first chunk has passed."""
        return self._features[0] is None

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of diffusers' encoder and decoder for the next chunk."""
        return {"feat_cache": self._features, "feat_idx": [0]}


class EncoderHalf(nn.Module):
    """Pixels to latent means."""

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.encoder = vae.get_submodule("encoder")
        self.quant_conv = vae.get_submodule("quant_conv")

    def forward(self, pixels: Tensor, cache: FeatureCache) -> Tensor:
        """One chunk, 1 frame at first and then 4: [1, 3, t, H, W] to means [1, 16, 1, h, w]."""
        moments: Tensor = self.quant_conv(self.encoder(pixels, **cache.arguments()))
        return moments[:, :LATENT_CHANNELS]


class DecoderHalf(nn.Module):
    """Latents to pixels."""

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.post_quant_conv = vae.get_submodule("post_quant_conv")
        self.decoder = vae.get_submodule("decoder")

    def forward(self, latent: Tensor, cache: FeatureCache) -> Tensor:
        """One latent frame [1, 16, 1, h, w] to 1 pixel frame at first, then 4: [1, 3, t, H, W]."""
        first = cache.is_empty
        features = self.post_quant_conv(latent)
        pixels: Tensor = self.decoder(features, first_chunk=first, **cache.arguments())
        return pixels


class LatentScale:
    """Normalisation of latents by the mean and standard deviation of each channel."""

    def __init__(self, config: VAEConfig, device: torch.device) -> None:
        shape = (1, LATENT_CHANNELS, 1, 1, 1)
        self._mean = torch.tensor(config.latents_mean, device=device).view(shape)
        self._std = torch.tensor(config.latents_std, device=device).view(shape)

    def normalise(self, latent: Tensor) -> Tensor:
        """Raw [1, 16, f, h, w] to normalised, float32."""
        return (latent.float() - self._mean) / self._std

    def restore(self, latent: Tensor) -> Tensor:
        """Normalised [1, 16, f, h, w] to raw, float32."""
        return latent.float() * self._std + self._mean


def load_encoder_half(
    checkpoint: CheckpointPaths, *, device: torch.device, dtype: torch.dtype
) -> tuple[EncoderHalf, LatentScale]:
    """The half that encodes; the other half's weights are not read.

    Raises:
        CheckpointError: The weights do not fit.
    """
    vae, config = _on_meta(checkpoint)
    half = EncoderHalf(vae).to(dtype)
    _load(half, checkpoint, config, device, unread=("decoder.", "conv2.", "post_quant_conv."))
    return half, LatentScale(config, device)


def load_decoder_half(
    checkpoint: CheckpointPaths, *, device: torch.device, dtype: torch.dtype
) -> tuple[DecoderHalf, LatentScale]:
    """The half that decodes; the other half's weights are not read.

    Raises:
        CheckpointError: The weights do not fit.
    """
    vae, config = _on_meta(checkpoint)
    half = DecoderHalf(vae).to(dtype)
    _load(half, checkpoint, config, device, unread=("encoder.", "conv1.", "quant_conv."))
    return half, LatentScale(config, device)


def _on_meta(checkpoint: CheckpointPaths) -> tuple[nn.Module, VAEConfig]:
    config = read_vae_config(checkpoint, open_vae(checkpoint))
    with torch.device("meta"):
        vae: nn.Module = AutoencoderKLWan(
            base_dim=config.base_dim,
            z_dim=LATENT_CHANNELS,
            dim_mult=list(config.dim_mult),
            num_res_blocks=config.num_res_blocks,
            temperal_downsample=list(config.temporal_downsample),
        )
    return vae, config


def _load(
    half: nn.Module,
    checkpoint: CheckpointPaths,
    config: VAEConfig,
    device: torch.device,
    unread: tuple[str, ...],
) -> None:
    published = checkpoint.layout is Layout.PUBLISHED

    def key_of(name: str) -> str:
        return published_vae_key(name, config) if published else name

    load_module(half, open_vae(checkpoint), key_of, device=device, ignored=unread)
