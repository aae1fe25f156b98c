"""The full-size VAE on a GPU with random weights: half against full precision, steady latents."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from model.checkpoint.vae import VAEConfig
from model.types import Latents, VideoShape
from model.vae import LatentScale, first_settled_latent
from model.vae_decoder import VAEDecoder
from model.vae_encoder import VAEEncoder
from model.vae_layers import channels_last
from model.vae_network import DecoderHalf, EncoderHalf

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
GPU = torch.device("cuda")
CONFIG = VAEConfig(96, (1, 2, 4, 4), 2, (False, True, True))


def draw(half: nn.Module, dtype: torch.dtype) -> None:
    """Weights that keep activations near 1, the same for every dtype."""
    generator = torch.Generator(GPU).manual_seed(0)
    for name, weight in half.named_parameters():
        drawn = torch.randn(weight.shape, generator=generator, device=GPU)
        if name.endswith("gamma"):
            drawn = 1 + 0.1 * drawn
        else:
            drawn = drawn / math.sqrt(drawn[0].numel() if drawn.ndim > 1 else 2500)
        weight.data = channels_last(drawn.to(dtype))
    half.requires_grad_(False).eval()


def decoder(dtype: torch.dtype, *, compiled: bool = False) -> VAEDecoder:
    with torch.device("meta"):
        half = DecoderHalf(CONFIG)
    draw(half, dtype)
    return VAEDecoder(half, LatentScale(CONFIG, GPU), torch.compile(half) if compiled else None)


def encoder(dtype: torch.dtype, num_distinct: int) -> VAEEncoder:
    with torch.device("meta"):
        half = EncoderHalf(CONFIG)
    draw(half, dtype)
    return VAEEncoder(half, LatentScale(CONFIG, GPU), num_distinct)


@contextmanager
def full_float32() -> Iterator[None]:
    """Without TF32, which cuDNN otherwise uses for float32."""
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = True


def decoded(dtype: torch.dtype, latents: Latents, *, compiled: bool = False) -> Tensor:
    parts = decoder(dtype, compiled=compiled).decode_float(latents)
    return torch.cat([part.float().cpu() for part in parts], dim=1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_decodes_within_45_db(dtype: torch.dtype) -> None:
    values = np.random.default_rng(0).standard_normal((16, 6, 60, 104), np.float32)
    latents = Latents(values)
    with full_float32():
        expected = decoded(torch.float32, latents)
    assert expected.shape == (3, 21, 480, 832) and 0.2 < float(expected.std()) < 1
    for compiled in (False, True):
        error = (decoded(dtype, latents, compiled=compiled) - expected).square().mean()
        psnr_db = 10 * math.log10(2**2 / float(error))
        print(f"{dtype}, compiled {compiled}: {psnr_db:.1f} dB")
        assert psnr_db >= 45


def test_bytes_arrive_in_order_while_the_next_are_computed() -> None:
    values = np.random.default_rng(0).standard_normal((16, 12, 16, 24), np.float32)
    model, latents = decoder(torch.bfloat16), Latents(values)
    frames = np.concatenate([part.pixels for part in model.decode(latents)])
    floats = torch.cat([part.float() for part in model.decode_float(latents)], dim=1)
    expected = ((floats + 1) / 2 * 255).to(torch.uint8).permute(1, 2, 3, 0).cpu().numpy()
    np.testing.assert_array_equal(frames, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_grey_frames_settle_on_a_gpu_too(dtype: torch.dtype) -> None:
    image = np.random.default_rng(0).integers(0, 256, (240, 416, 3), dtype=np.uint8)
    shape = VideoShape(num_frames=161, height=240, width=416)
    whole = encoder(dtype, 41).encode(image, shape).latent
    stopped = encoder(dtype, first_settled_latent(CONFIG) + 1).encode(image, shape).latent
    np.testing.assert_allclose(stopped, whole, rtol=0, atol=1e-6)
