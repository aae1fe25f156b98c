"""Kernels sorted into a few kinds by their names; free of torch."""

import re
from enum import Enum


class KernelKind(str, Enum):
    """What a kernel is for."""

    ATTENTION = "attention"
    GEMM = "gemm"
    ELEMENTWISE = "norm_elementwise"
    COPY = "copy"
    COMMUNICATION = "communication"


# The first that matches decides: attention kernels are CUTLASS ones too, and a fused kernel of
# torch.compile carries the names of the copies that went into it.
_PATTERNS = (
    (KernelKind.COMMUNICATION, r"nccl|gloo|all_to_all|all_gather|c10d|multimem|symm_mem"),
    (KernelKind.ATTENTION, r"flash|fmha|sdpa|attention|attn"),
    (KernelKind.GEMM, r"gemm|nvjet|cutlass|cublas|splitk|wgmma|triton_tem|conv|(::|_)(add|b)?mm\b"),
    (KernelKind.ELEMENTWISE, r"triton_"),
    (KernelKind.COPY, r"memcpy|memset|copy|cat_|catarray|::cat|contiguous|fill|pad|::to\b"),
)


def kernel_kind(name: str) -> KernelKind:
    """The kind of a kernel, or on a CPU of an operator."""
    lowered = name.lower()
    for kind, pattern in _PATTERNS:
        if re.search(pattern, lowered):
            return kind
    return KernelKind.ELEMENTWISE
