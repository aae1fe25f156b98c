"""Every attention kernel, and compiled blocks, on one GPU: no worse than bf16 has to be.

The yardstick is plain bf16: how far the uncompiled model with PyTorch's attention lies from the
same model in float32.
"""

from itertools import product

import pytest
import torch
from torch import Tensor

from model.attention import AttentionBackend, attention_kernel, choose_attention
from model.config import DiTConfig
from model.errors import ConfigurationError
from model.experts import ExpertSettings, random_expert

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU with 24 GB"),
]

CONFIG = DiTConfig(num_layers=4)
LATENT = (5, 60, 104)  # 17 frames of 480x832: 7,800 tokens
PLAIN = AttentionBackend.SDPA
KERNELS = [kernel for kernel in AttentionBackend if kernel is not AttentionBackend.AUTO]


def error(ours: Tensor, expected: Tensor) -> float:
    return float((ours.float() - expected).norm() / expected.norm())


def available(backend: AttentionBackend) -> AttentionBackend:
    device = torch.device("cuda")
    try:
        return choose_attention(backend, device=device, dtype=torch.bfloat16)
    except ConfigurationError as absent:
        pytest.skip(str(absent))


@pytest.mark.parametrize("backend", KERNELS)
@pytest.mark.parametrize("keys", [4096, 512])
def test_kernels_are_softmax_attention_to_rounding(backend: AttentionBackend, keys: int) -> None:
    generator = torch.Generator("cuda").manual_seed(0)

    def draw(length: int) -> Tensor:
        values = torch.randn(1, length, 3, 8, 128, generator=generator, device="cuda")
        return values.to(torch.bfloat16)[:, :, 1]  # strided, as an all-to-all leaves it

    q_BLNH, k_BSNH, v_BSNH = draw(4096), draw(keys), draw(keys)
    exact = attention_kernel(PLAIN)(q_BLNH.float(), k_BSNH.float(), v_BSNH.float())
    out_BLNH = attention_kernel(available(backend))(q_BLNH, k_BSNH, v_BSNH)
    assert out_BLNH.shape == q_BLNH.shape
    assert error(out_BLNH, exact) <= 2**-8  # half a unit in the last place of bf16's 8 bits


@torch.no_grad()
def flow(dtype: torch.dtype, backend: AttentionBackend, *, compiled: bool) -> Tensor:
    device = torch.device("cuda")
    settings = ExpertSettings(attention=backend, compiled=compiled)
    dit = random_expert(CONFIG, settings, device=device, dtype=dtype)
    generator = torch.Generator(device).manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    clip = dit.condition_clip(draw(20, *LATENT), draw(384, *LATENT), kept_blocks=2)
    prompt = dit.condition_prompt(draw(77, CONFIG.text_dim), None)
    return dit(draw(16, *LATENT), torch.tensor(900, device=device), clip, prompt)


@pytest.fixture(scope="module")
def exact() -> Tensor:
    return flow(torch.float32, PLAIN, compiled=False)


@pytest.fixture(scope="module")
def rounding(exact: Tensor) -> float:
    return error(flow(torch.bfloat16, PLAIN, compiled=False), exact)


@pytest.mark.parametrize(("backend", "compiled"), list(product(KERNELS, (False, True))))
def test_full_width_blocks_round_as_plain_bf16_does(
    exact: Tensor, rounding: float, backend: AttentionBackend, compiled: bool
) -> None:
    ours = error(flow(torch.bfloat16, available(backend), compiled=compiled), exact)
    print(f"{backend.value}, compiled {compiled}: {ours:.2e}; plain {rounding:.2e}")
    assert ours <= 2 * rounding
