"""Dense attention behind one choice, made when the model is built."""

import functools
import importlib
import logging
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from model.errors import ConfigurationError

logger = logging.getLogger(__name__)

HOPPER = (9, 0)


class AttentionKernel(Protocol):
    """Softmax attention without mask: q [B, L, N, H], k and v [B, S, N, H], to [B, L, N, H]."""

    def __call__(self, q_BLNH: Tensor, k_BSNH: Tensor, v_BSNH: Tensor) -> Tensor: ...


class AttentionBackend(str, Enum):
    """Which kernel computes attention; `auto` takes the fastest that runs here."""

    AUTO = "auto"
    FLASH_ATTN_3 = "flash_attn_3"
    FLASH_ATTN = "flash_attn"
    CUDNN = "cudnn"
    SDPA = "sdpa"


# Modules that bring `flash_attn_func`, and what to install for them. FlashAttention-3's own build
# and the forward-only wheel name it differently.
_MODULES = {
    AttentionBackend.FLASH_ATTN_3: ("flash_attn_interface", "fa3_fwd_interface"),
    AttentionBackend.FLASH_ATTN: ("flash_attn",),
}
_PACKAGES = {
    AttentionBackend.FLASH_ATTN_3: "fa3-fwd",
    AttentionBackend.FLASH_ATTN: "flash-attn",
}


def choose_attention(
    requested: AttentionBackend, *, device: torch.device, dtype: torch.dtype
) -> AttentionBackend:
    """The backend that a setting means on this device; never `auto`.

    The order of `auto` is that of docs/benchmarks: on Hopper FlashAttention-3, then cuDNN;
    elsewhere FlashAttention-2; PyTorch's own choice where none of them runs.

    Raises:
        ConfigurationError: The backend was named and does not run here; the message says why.
    """
    if requested is not AttentionBackend.AUTO:
        if problem := _problem(requested, device, dtype):
            raise ConfigurationError(f"attention {requested.value} {problem}")
        return requested
    hopper_only = (AttentionBackend.FLASH_ATTN_3, AttentionBackend.CUDNN)
    for backend in (*hopper_only, AttentionBackend.FLASH_ATTN):
        if backend in hopper_only and not _is_hopper(device):
            continue
        problem = _problem(backend, device, dtype)
        if problem is None:
            return backend
        logger.info("attention %s %s", backend.value, problem)
    return AttentionBackend.SDPA


def attention_kernel(backend: AttentionBackend) -> AttentionKernel:
    """The kernel of a backend that `choose_attention` has returned."""
    if backend is AttentionBackend.SDPA:
        return sdpa
    return cudnn if backend is AttentionBackend.CUDNN else _flash_kernel(backend)


def sdpa(q_BLNH: Tensor, k_BSNH: Tensor, v_BSNH: Tensor) -> Tensor:
    """PyTorch's own choice of kernel."""
    q_BNLH, k_BNSH, v_BNSH = (x.transpose(1, 2) for x in (q_BLNH, k_BSNH, v_BSNH))
    return F.scaled_dot_product_attention(q_BNLH, k_BNSH, v_BNSH).transpose(1, 2)


def cudnn(q_BLNH: Tensor, k_BSNH: Tensor, v_BSNH: Tensor) -> Tensor:
    """cuDNN's kernel, also where PyTorch would choose another."""
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        return sdpa(q_BLNH, k_BSNH, v_BSNH)


def _problem(backend: AttentionBackend, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why a backend does not run here, with the remedy; None if it does."""
    if backend is AttentionBackend.SDPA:
        return None
    if device.type != "cuda":
        return "needs a GPU; use sdpa or auto"
    if dtype is not torch.bfloat16:
        return f"computes in bfloat16, not {dtype}; use sdpa or auto"
    if backend is AttentionBackend.FLASH_ATTN_3 and not _is_hopper(device):
        return f"needs a Hopper GPU, not {torch.cuda.get_device_name(device)}; use auto"
    if backend is AttentionBackend.CUDNN:
        return None
    try:
        _flash_attn_func(backend)
    except ImportError as error:
        return f"cannot be imported ({error}); install {_PACKAGES[backend]}, or use cudnn or auto"
    return None


def _is_hopper(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) == HOPPER


@functools.cache
def _flash_attn_func(backend: AttentionBackend) -> Callable[..., Any]:
    return import_flash_attn(_MODULES[backend])


def import_flash_attn(modules: Iterable[str]) -> Callable[..., Any]:
    """`flash_attn_func` of the first module that brings it.

    Raises:
        ImportError: None does; the message says why of each.
    """
    problems = []
    for name in modules:
        try:
            function: Callable[..., Any] = importlib.import_module(name).flash_attn_func
        # Whatever a wheel built for another torch raises (OSError, RuntimeError, AttributeError):
        # it is as good as none, and the next one may work.
        except Exception as error:
            problems.append(f"{name}: {error}")
        else:
            return function
    raise ImportError("; ".join(problems))


@functools.cache
def _flash_kernel(backend: AttentionBackend) -> AttentionKernel:
    """A FlashAttention as one operator of our own, which torch.compile does not look into."""
    function = _flash_attn_func(backend)

    @torch.library.custom_op(f"lingbot_serve::{backend.value}", mutates_args=())
    def flash(q_BLNH: Tensor, k_BSNH: Tensor, v_BSNH: Tensor) -> Tensor:
        out = function(q_BLNH, k_BSNH, v_BSNH)
        # Some builds of FlashAttention-3 return the log-sum-exp as well.
        attended: Tensor = out[0] if isinstance(out, tuple) else out
        return attended

    @flash.register_fake
    def shape(q_BLNH: Tensor, k_BSNH: Tensor, v_BSNH: Tensor) -> Tensor:
        return q_BLNH.new_empty(q_BLNH.shape)

    kernel: AttentionKernel = flash
    return kernel
