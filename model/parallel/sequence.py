"""Splitting the tokens of one clip over ranks, seen from the model as one small object.

Shapes: B batch, L all tokens, P ranks, l = ceil(L/P) tokens of one rank, N heads, H head size.
Padding lives only between `shard` and `gather`; attention sees the L real tokens, so a token
count that P does not divide gives the same answer.
"""

from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup


class SequenceParallel(Protocol):
    """What the model asks of sequence parallelism."""

    @property
    def size(self) -> int:
        """Ranks that share the tokens of a clip."""

    def shard(self, x_BLD: Tensor) -> Tensor:
        """This rank's tokens of dimension 1: [B, L, …] to [B, l, …], zero-padded at the end."""

    def gather(self, x_BlD: Tensor, num_tokens: int) -> Tensor:
        """All tokens on every rank: [B, l, …] to [B, L, …]."""

    def before_attention(self, qkv_3BlNH: Tensor, num_tokens: int) -> Tensor:
        """Tokens for heads: [3, B, l, N, H] to [3, B, L, N/P, H]."""

    def after_attention(self, out_BLnH: Tensor) -> Tensor:
        """Heads for tokens: [B, L, N/P, H] to [B, l, N, H]."""


class NoSequenceParallel:
    """One rank holds every token; all four operations are the identity."""

    size = 1

    def shard(self, x_BLD: Tensor) -> Tensor:
        return x_BLD

    def gather(self, x_BlD: Tensor, num_tokens: int) -> Tensor:
        return x_BlD

    def before_attention(self, qkv_3BlNH: Tensor, num_tokens: int) -> Tensor:
        return qkv_3BlNH

    def after_attention(self, out_BLnH: Tensor) -> Tensor:
        return out_BLnH


class UlyssesSequenceParallel:
    """DeepSpeed-Ulysses (arXiv 2309.14509): two all-to-alls a layer, one for q, k and v together.

    Args:
        group: The ranks that share one clip, in token order.
    """

    def __init__(self, group: ProcessGroup) -> None:
        self._group = group
        self._rank = dist.get_rank(group)
        self.size = dist.get_world_size(group)

    def shard(self, x_BLD: Tensor) -> Tensor:
        local = -(-x_BLD.shape[1] // self.size)
        mine = x_BLD[:, self._rank * local : (self._rank + 1) * local]
        return _pad_tokens(mine, local)

    def gather(self, x_BlD: Tensor, num_tokens: int) -> Tensor:
        parts = x_BlD.new_empty(self.size, *x_BlD.shape)
        dist.all_gather(list(parts.unbind(0)), x_BlD.contiguous(), group=self._group)
        return parts.transpose(0, 1).flatten(1, 2)[:, :num_tokens]

    def before_attention(self, qkv_3BlNH: Tensor, num_tokens: int) -> Tensor:
        by_heads = qkv_3BlNH.unflatten(3, (self.size, -1)).movedim(3, 0)
        by_tokens_P3BlnH = self._all_to_all(by_heads)
        return by_tokens_P3BlnH.movedim(0, 2).flatten(2, 3)[:, :, :num_tokens]

    def after_attention(self, out_BLnH: Tensor) -> Tensor:
        local = -(-out_BLnH.shape[1] // self.size)
        padded = _pad_tokens(out_BLnH, local * self.size)
        by_tokens = padded.unflatten(1, (self.size, local)).movedim(1, 0)
        by_heads_PBlnH = self._all_to_all(by_tokens)
        return by_heads_PBlnH.movedim(0, 2).flatten(2, 3)

    def _all_to_all(self, send: Tensor) -> Tensor:
        send = send.contiguous()
        receive = torch.empty_like(send)
        dist.all_to_all_single(receive, send, group=self._group)
        return receive


def _pad_tokens(x_BLD: Tensor, length: int) -> Tensor:
    missing = length - x_BLD.shape[1]
    if not missing:
        return x_BLD
    return torch.cat([x_BLD, x_BLD.new_zeros(x_BLD.shape[0], missing, *x_BLD.shape[2:])], dim=1)
