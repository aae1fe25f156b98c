"""The one choice of attention kernel."""

import pytest
import torch

from model.attention import (
    AttentionBackend,
    attention_kernel,
    choose_attention,
    import_flash_attn,
    sdpa,
)
from model.errors import ConfigurationError

CPU = torch.device("cpu")
GPU_ONLY = [AttentionBackend.CUDNN, AttentionBackend.FLASH_ATTN, AttentionBackend.FLASH_ATTN_3]


def test_sdpa_is_softmax_attention() -> None:
    generator = torch.Generator().manual_seed(0)
    q_BLNH, k_BSNH, v_BSNH = (
        torch.randn(1, length, 2, 8, generator=generator) for length in (5, 7, 7)
    )
    weights = torch.einsum("blnh,bsnh->bnls", q_BLNH, k_BSNH).div(8**0.5).softmax(-1)
    expected = torch.einsum("bnls,bsnh->blnh", weights, v_BSNH)
    assert torch.allclose(sdpa(q_BLNH, k_BSNH, v_BSNH), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_auto_runs_anywhere(dtype: torch.dtype) -> None:
    chosen = choose_attention(AttentionBackend.AUTO, device=CPU, dtype=dtype)
    assert chosen is AttentionBackend.SDPA
    assert attention_kernel(chosen) is sdpa


@pytest.mark.parametrize("backend", GPU_ONLY)
def test_gpu_kernels_are_refused_on_cpus(backend: AttentionBackend) -> None:
    with pytest.raises(ConfigurationError, match=r"needs a GPU; use sdpa or auto"):
        choose_attention(backend, device=CPU, dtype=torch.bfloat16)


@pytest.mark.parametrize("backend", GPU_ONLY)
def test_gpu_kernels_are_refused_for_float32(backend: AttentionBackend) -> None:
    with pytest.raises(ConfigurationError, match="computes in bfloat16"):
        choose_attention(backend, device=torch.device("cuda"), dtype=torch.float32)


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """On the path: one built for another torch, one without the function, one that works."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "flash_of_another_abi.py").write_text("raise OSError('undefined symbol: _ZN3c10')")
    (tmp_path / "flash_of_another_age.py").write_text("")
    (tmp_path / "flash_that_works.py").write_text("def flash_attn_func(): return 'attended'")


@pytest.mark.parametrize("broken", ["flash_of_another_abi", "flash_of_another_age", "flash_absent"])
def test_broken_module_hides_no_other(modules: None, broken: str) -> None:
    assert import_flash_attn([broken, "flash_that_works"])() == "attended"


def test_every_broken_module_is_told(modules: None) -> None:
    with pytest.raises(ImportError, match=r"undefined symbol.*; flash_absent: No module named"):
        import_flash_attn(["flash_of_another_abi", "flash_absent"])
