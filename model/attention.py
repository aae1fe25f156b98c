"""Dense attention behind one choice, made when the model is built."""

from enum import Enum
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from model.errors import ConfigurationError

try:  # CUDA only and compiled on the host, so a CPU install has no use for it
    from flash_attn import flash_attn_func
except ImportError:
    flash_attn_func = None


class AttentionKernel(Protocol):
    """Softmax attention without mask: q [B, L, N, H], k and v [B, S, N, H], to [B, L, N, H]."""

    def __call__(self, q_BLNH: Tensor, k_BSNH: Tensor, v_BSNH: Tensor) -> Tensor: ...


class AttentionBackend(str, Enum):
    """Which kernel computes attention; `auto` leaves it to PyTorch."""

    AUTO = "auto"
    FLASH_ATTN = "flash_attn"
    CUDNN = "cudnn"
    SDPA = "sdpa"


def attention_kernel(backend: AttentionBackend, device: torch.device) -> AttentionKernel:
    """The kernel of a backend.

    Raises:
        ConfigurationError: The backend does not run on this device or is not installed.
    """
    # PyTorch takes cuDNN's on Hopper and FlashAttention-2 on Ampere (docs/benchmarks).
    if backend in (AttentionBackend.AUTO, AttentionBackend.SDPA):
        return sdpa
    if device.type != "cuda":
        raise ConfigurationError(f"attention {backend.value} needs a GPU; use sdpa or auto")
    if backend is AttentionBackend.CUDNN:
        return cudnn
    if flash_attn_func is None:
        raise ConfigurationError("attention flash_attn is not installed; use cudnn or auto")
    return flash


def sdpa(q_BLNH: Tensor, k_BSNH: Tensor, v_BSNH: Tensor) -> Tensor:
    """PyTorch's own choice of kernel."""
    q_BNLH, k_BNSH, v_BNSH = (x.transpose(1, 2) for x in (q_BLNH, k_BSNH, v_BSNH))
    return F.scaled_dot_product_attention(q_BNLH, k_BNSH, v_BNSH).transpose(1, 2)


def cudnn(q_BLNH: Tensor, k_BSNH: Tensor, v_BSNH: Tensor) -> Tensor:
    """cuDNN's kernel, also where PyTorch would choose another."""
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        return sdpa(q_BLNH, k_BSNH, v_BSNH)


def flash(q_BLNH: Tensor, k_BSNH: Tensor, v_BSNH: Tensor) -> Tensor:
    """FlashAttention-2."""
    out: Tensor = flash_attn_func(q_BLNH, k_BSNH, v_BSNH)
    return out
