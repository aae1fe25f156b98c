"""The one choice of attention kernel."""

import pytest
import torch

from model.attention import AttentionBackend, attention_kernel, sdpa
from model.errors import ConfigurationError

CPU = torch.device("cpu")


def test_sdpa_is_softmax_attention() -> None:
    generator = torch.Generator().manual_seed(0)
    q_BLNH, k_BSNH, v_BSNH = (
        torch.randn(1, length, 2, 8, generator=generator) for length in (5, 7, 7)
    )
    weights = torch.einsum("blnh,bsnh->bnls", q_BLNH, k_BSNH).div(8**0.5).softmax(-1)
    expected = torch.einsum("bnls,bsnh->blnh", weights, v_BSNH)
    assert torch.allclose(sdpa(q_BLNH, k_BSNH, v_BSNH), expected, atol=1e-6)


def test_auto_runs_anywhere() -> None:
    assert attention_kernel(AttentionBackend.AUTO, CPU) is sdpa


@pytest.mark.parametrize("backend", [AttentionBackend.CUDNN, AttentionBackend.FLASH_ATTN])
def test_gpu_kernels_are_refused_on_cpus(backend: AttentionBackend) -> None:
    with pytest.raises(ConfigurationError, match="needs a GPU"):
        attention_kernel(backend, CPU)
