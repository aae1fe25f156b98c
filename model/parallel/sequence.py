"""Splitting the tokens of one clip over ranks, seen from the model as one small object.

Shapes: B batch (always 1), L all tokens, P ranks, l = ceil(L/P) tokens of one rank, N heads,
n = N/P heads of one rank, H head size. Padding lives only between `shard` and `gather`; attention
sees the L real tokens, so a token count that P does not divide gives the same answer.

The exchanges are asynchronous: matrix products between their start and `Exchange.wait` hide them.
The buffers are laid out so that what arrives is read where it lies.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup, Work

QKV = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Exchange:
    """Tensors on their way; those sent are kept until the others are there."""

    received: tuple[Tensor, ...]
    sent: Tensor | None = None
    work: Work | None = None

    def wait(self) -> tuple[Tensor, ...]:
        """What has arrived; on a GPU the stream waits, not the caller."""
        if self.work is not None:
            self.work.wait()
        return self.received


class SequenceParallel(Protocol):
    """What the model asks of sequence parallelism.

    `pack`, `heads` and `tokens` are plain tensor expressions, which a compiler may fuse with
    what stands beside them; the other methods communicate.
    """

    @property
    def size(self) -> int:
        """Ranks that share the tokens of a clip."""

    def shard(self, x_BLD: Tensor) -> Tensor:
        """This rank's tokens of dimension 1: [B, L, …] to [B, l, …], zero-padded at the end."""

    def gather(self, x_BlD: Tensor, num_tokens: int) -> Tensor:
        """All tokens on every rank: [B, l, …] to [B, L, …]."""

    def pack(self, q_BlNH: Tensor, k_BlNH: Tensor, v_BlNH: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values of this rank's tokens, ready to send."""

    def scatter_heads(self, packed: tuple[Tensor, ...]) -> Exchange:
        """Starts the exchange of all heads of some tokens for some heads of all tokens."""

    def heads(self, received: tuple[Tensor, ...], num_tokens: int) -> QKV:
        """What `scatter_heads` brought, as [B, L, n, H] each."""

    def gather_heads(self, out_BLnH: Tensor) -> Exchange:
        """Starts the exchange of some heads of all tokens for all heads of some tokens."""

    def tokens(self, received: tuple[Tensor, ...]) -> Tensor:
        """What `gather_heads` brought, as [B, l, N, H]."""


class NoSequenceParallel:
    """One rank holds every token: nothing moves."""

    size = 1

    def shard(self, x_BLD: Tensor) -> Tensor:
        return x_BLD

    def gather(self, x_BlD: Tensor, num_tokens: int) -> Tensor:
        return x_BlD

    def pack(self, q_BlNH: Tensor, k_BlNH: Tensor, v_BlNH: Tensor) -> tuple[Tensor, ...]:
        return q_BlNH, k_BlNH, v_BlNH

    def scatter_heads(self, packed: tuple[Tensor, ...]) -> Exchange:
        return Exchange(packed)

    def heads(self, received: tuple[Tensor, ...], num_tokens: int) -> QKV:
        q_BLNH, k_BLNH, v_BLNH = received
        return q_BLNH, k_BLNH, v_BLNH

    def gather_heads(self, out_BLnH: Tensor) -> Exchange:
        return Exchange((out_BLnH,))

    def tokens(self, received: tuple[Tensor, ...]) -> Tensor:
        return received[0]


class UlyssesSequenceParallel:
    """DeepSpeed-Ulysses (arXiv 2309.14509): two all-to-alls a layer, one for q, k and v together.

    Args:
        size: Ranks that share one clip.
        rank: This one's position in token order.
        group: Those ranks.
    """

    def __init__(self, size: int, rank: int, group: ProcessGroup) -> None:
        self.size = size
        self._rank = rank
        self._group = group

    def shard(self, x_BLD: Tensor) -> Tensor:
        local = -(-x_BLD.shape[1] // self.size)
        mine = x_BLD[:, self._rank * local : (self._rank + 1) * local]
        return _pad_tokens(mine, local)

    def gather(self, x_BlD: Tensor, num_tokens: int) -> Tensor:
        parts = x_BlD.new_empty(self.size, *x_BlD.shape)
        self._all_gather(parts, x_BlD.contiguous())
        return parts.transpose(0, 1).flatten(1, 2)[:, :num_tokens]

    def pack(self, q_BlNH: Tensor, k_BlNH: Tensor, v_BlNH: Tensor) -> tuple[Tensor, ...]:
        # By rank, then token: of what arrives, rank and token together count all tokens.
        by_rank = [x.unflatten(2, (self.size, -1)).movedim(2, 0) for x in (q_BlNH, k_BlNH, v_BlNH)]
        return (torch.stack(by_rank, dim=3),)

    def scatter_heads(self, packed: tuple[Tensor, ...]) -> Exchange:
        return self._all_to_all(packed[0])

    def heads(self, received: tuple[Tensor, ...], num_tokens: int) -> QKV:
        (by_token_PBl3nH,) = received
        qkv_BL3nH = by_token_PBl3nH.movedim(0, 1).flatten(1, 2)[:, :num_tokens]
        q_BLnH, k_BLnH, v_BLnH = qkv_BL3nH.unbind(2)
        return q_BLnH, k_BLnH, v_BLnH

    def gather_heads(self, out_BLnH: Tensor) -> Exchange:
        local = -(-out_BLnH.shape[1] // self.size)
        padded = _pad_tokens(out_BLnH, local * self.size)
        return self._all_to_all(padded.unflatten(1, (self.size, local)).movedim(1, 0))

    def tokens(self, received: tuple[Tensor, ...]) -> Tensor:
        return received[0].movedim(0, 2).flatten(2, 3)

    def _all_to_all(self, send: Tensor) -> Exchange:
        send = send.contiguous()
        receive = torch.empty_like(send)
        work = dist.all_to_all_single(receive, send, group=self._group, async_op=True)
        return Exchange((receive,), send, work)

    def _all_gather(self, parts: Tensor, mine: Tensor) -> None:
        dist.all_gather(list(parts.unbind(0)), mine, group=self._group)


class SilentUlysses(UlyssesSequenceParallel):
    """One rank's work without its communication, for measuring what that costs.

    Shapes and kernels are those of a gang; the values are not, as nobody sends any.

    Args:
        size: Ranks of the gang that is imitated.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._rank = 0

    def _all_to_all(self, send: Tensor) -> Exchange:
        return Exchange((send.contiguous(),))

    def _all_gather(self, parts: Tensor, mine: Tensor) -> None:
        parts.copy_(mine.expand_as(parts))


def _pad_tokens(x_BLD: Tensor, length: int) -> Tensor:
    missing = length - x_BLD.shape[1]
    if not missing:
        return x_BLD
    return torch.cat([x_BLD, x_BLD.new_zeros(x_BLD.shape[0], missing, *x_BLD.shape[2:])], dim=1)
