"""The full-size VAE on a GPU with random weights: half against full precision, steady latents."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import pytest
import torch
from torch import Tensor

from model.checkpoint.vae import VAEConfig
from model.types import Latents, VideoShape
from model.vae import LatentScale, compile_half, first_settled_latent
from model.vae_decoder import VAEDecoder
from model.vae_encoder import VAEEncoder
from model.vae_layers import channels_last
from model.vae_network import DecoderHalf, EncoderHalf

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
GPU = torch.device("cuda")
IMAGE = np.random.default_rng(0).integers(0, 256, (240, 416, 3), dtype=np.uint8)
CONFIG = VAEConfig(96, (1, 2, 4, 4), 2, (False, True, True))


Half = TypeVar("Half", DecoderHalf, EncoderHalf)


def draw(kind: type[Half], dtype: torch.dtype) -> Half:
    """Weights that keep activations near 1, the same for every dtype."""
    with torch.device("meta"):
        half = kind(CONFIG).to(dtype)
    half.to_empty(device=GPU).requires_grad_(False).eval()
    generator = torch.Generator(GPU).manual_seed(0)
    for name, weight in half.named_parameters():
        drawn = torch.randn(weight.shape, generator=generator, device=GPU)
        fan_in = drawn[0].numel() if drawn.ndim > 1 else 2500
        weight.copy_(1 + 0.1 * drawn if name.endswith("gamma") else drawn / math.sqrt(fan_in))
        weight.data = channels_last(weight.data)
    return half


def decoder(dtype: torch.dtype, *, compiled: bool = False) -> VAEDecoder:
    half = draw(DecoderHalf, dtype)
    return VAEDecoder(half, LatentScale(CONFIG, GPU), compile_half(half) if compiled else None)


def encoder(dtype: torch.dtype, num_distinct: int) -> VAEEncoder:
    return VAEEncoder(draw(EncoderHalf, dtype), LatentScale(CONFIG, GPU), num_distinct)


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


@pytest.mark.parametrize(
    ("dtype", "compiled"),
    [(torch.bfloat16, False), (torch.float16, False), (torch.bfloat16, True)],
)
def test_half_precision_decodes_within_45_db(dtype: torch.dtype, compiled: bool) -> None:
    values = np.random.default_rng(0).standard_normal((16, 6, 60, 104), np.float32)
    latents = Latents(values)
    with full_float32():
        expected = decoded(torch.float32, latents)
    assert expected.shape == (3, 21, 480, 832) and 0.2 < float(expected.std()) < 1
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
    shape = VideoShape(num_frames=161, height=240, width=416)
    with full_float32():  # cuDNN need not take the same algorithm twice, and TF32 shows it
        whole = encoder(dtype, 41).encode(IMAGE, shape).latent
        stopped = encoder(dtype, first_settled_latent(CONFIG) + 1).encode(IMAGE, shape).latent
    np.testing.assert_allclose(stopped, whole, rtol=0, atol=1e-4)
