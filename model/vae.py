"""Loading the halves of the VAE, the scale of its latents, and how a clip is cut into chunks."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from model.checkpoint.layout import CheckpointPaths, Layout
from model.checkpoint.load import load_module
from model.checkpoint.vae import VAEConfig, open_vae, published_vae_key, read_vae_config
from model.types import LATENT_CHANNELS
from model.vae_layers import PAST_FRAMES, channels_last
from model.vae_network import DecoderHalf, EncoderHalf

# Latent frames after the first that go through the VAE at once: one leaves a GPU idle where the
# levels are small, and with each more the activations grow.
LATENTS_PER_CHUNK = 2

RunHalf = Callable[[Tensor, Sequence[Tensor]], tuple[Tensor, list[Tensor]]]


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


def compile_half(half: nn.Module, backend: str | Callable[..., Any] = "inductor") -> RunHalf:
    """The half through torch.compile: one graph for clips of every size.

    Args:
        half: An encoder's or a decoder's.
        backend: As `torch.compile` takes it.
    """
    graph = torch.compile(half, backend=backend)

    def run(chunk: Tensor, kept: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        for tensor in (chunk, *kept):
            torch._dynamo.maybe_mark_dynamic(tensor, (3, 4))  # height and width, and nothing else
        result: tuple[Tensor, list[Tensor]] = graph(chunk, kept)
        return result

    return run


def first_settled_latent(config: VAEConfig) -> int:
    """The first latent frame that the image before grey frames has no part in.

    A causal convolution over three frames carries the image two frames on, halving the frames
    halves how far it has come, and nothing else looks back. So this latent and all after it are the
    same function of the same grey frames.
    """
    reach = 1  # the first frame that the image has no part in, at the rate of the level
    reach += PAST_FRAMES  # conv_in
    per_block = 2 * PAST_FRAMES
    for level in range(len(config.dim_mult)):
        reach += per_block * config.num_res_blocks
        if level < len(config.temporal_downsample) and config.temporal_downsample[level]:
            reach = -(-reach // 2) + 1  # frame j is made of 2j - 2, 2j - 1 and 2j
    return reach + 2 * per_block + PAST_FRAMES  # the middle's two blocks and conv_out


def load_encoder_half(
    checkpoint: CheckpointPaths, *, device: torch.device, dtype: torch.dtype
) -> tuple[EncoderHalf, VAEConfig]:
    """The half that encodes; the other half's weights are not read.

    Raises:
        CheckpointError: The weights do not fit.
    """
    config = read_vae_config(checkpoint, open_vae(checkpoint))
    with torch.device("meta"):
        half = EncoderHalf(config).to(dtype)
    _load(half, checkpoint, config, device, unread=("decoder.", "conv2.", "post_quant_conv."))
    return half, config


def load_decoder_half(
    checkpoint: CheckpointPaths, *, device: torch.device, dtype: torch.dtype
) -> tuple[DecoderHalf, VAEConfig]:
    """The half that decodes; the other half's weights are not read.

    Raises:
        CheckpointError: The weights do not fit.
    """
    config = read_vae_config(checkpoint, open_vae(checkpoint))
    with torch.device("meta"):
        half = DecoderHalf(config).to(dtype)
    _load(half, checkpoint, config, device, unread=("encoder.", "conv1.", "quant_conv."))
    return half, config


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
    for parameter in half.parameters():
        parameter.data = channels_last(parameter.data)
