"""Muon: steps along the momentum of matrices, made orthogonal.

Keller Jordan et al., 2024, kellerjordan.github.io/posts/muon; the scale is of arXiv 2502.16982.
`torch.optim.Muon` takes the same steps, one matrix and some 25 kernels at a time. Here all matrices
of a shape are one batch.
"""

import math
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

_MOMENTUM = 0.95
_ROUNDS = 5
_A, _B, _C = 3.4445, -4.775, 2.0315  # of the odd polynomial that draws singular values towards 1
_LEAST_NORM = 1e-7
_RMS = 0.2  # of a step at rate 1, about that of AdamW


class Muon(Optimizer):
    """Trains matrices; at the rate of AdamW its steps are about as long.

    Args:
        matrices: What is trained.
        lr: Learning rate.
        weight_decay: Of each step, times the rate.
    """

    def __init__(self, matrices: Iterable[nn.Parameter], *, lr: float, weight_decay: float) -> None:
        super().__init__(list(matrices), {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """A step of every matrix that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            wanted = [p for p in group["params"] if p.grad is not None]
            by_shape = groupby(sorted(wanted, key=_shape), key=_shape)
            for shape, matrices in by_shape:
                rate = _RMS * math.sqrt(max(shape)) * group["lr"]
                self._step(list(matrices), rate, 1 - group["lr"] * group["weight_decay"])

    def _step(self, matrices: list[Tensor], rate: float, kept: float) -> None:
        gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
        momenta = [self._momentum(matrix) for matrix in matrices]
        torch._foreach_lerp_(momenta, gradients, 1 - _MOMENTUM)
        ahead = torch._foreach_lerp(gradients, momenta, _MOMENTUM)
        steps = orthogonal(torch.stack(ahead)).to(matrices[0].dtype)
        torch._foreach_mul_(matrices, kept)
        torch._foreach_add_(matrices, list(steps.unbind()), alpha=-rate)

    def _momentum(self, matrix: Tensor) -> Tensor:
        state = self.state[matrix]
        if not state:
            state["momentum"] = torch.zeros_like(matrix)
        momentum: Tensor = state["momentum"]
        return momentum


def orthogonal(matrices_BRC: Tensor) -> Tensor:
    """The nearest matrices whose singular values are about 1, bfloat16 (Newton-Schulz)."""
    rows, columns = matrices_BRC.shape[1:]
    wide = matrices_BRC.bfloat16() if rows <= columns else matrices_BRC.bfloat16().mT
    wide = wide / wide.norm(dim=(1, 2), keepdim=True).clamp(min=_LEAST_NORM)
    for _ in range(_ROUNDS):
        gram = wide @ wide.mT
        wide = torch.baddbmm(
            wide, torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C), wide, beta=_A
        )
    return wide if rows <= columns else wide.mT


def _shape(matrix: Tensor) -> tuple[int, ...]:
    return tuple(matrix.shape)
