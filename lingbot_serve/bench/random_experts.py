"""A gang's experts without a checkpoint: real modules, weights drawn on the device."""

import gc
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from lingbot_serve.bench.dit_cases import DitCase, DitSettings
from model.attention import AttentionBackend, choose_attention
from model.dit import DiT
from model.experts import Experts, ExpertSettings, build_dit, random_expert, resolve_sharding
from model.parallel.mesh import ParallelMesh
from model.parallel.sequence import (
    QKV,
    Exchange,
    NoSequenceParallel,
    SequenceParallel,
    SilentUlysses,
)
from model.parallel.sharding import Sharding


class SilenceableSequence:
    """Sequence parallelism that can pretend: it goes on computing, and nobody sends anything.

    Args:
        real: What it does otherwise.
    """

    def __init__(self, real: SequenceParallel) -> None:
        self.size = real.size
        self.silent = False
        self._real = real
        self._silent = SilentUlysses(real.size)

    def shard(self, x_BLD: Tensor) -> Tensor:
        return self._real.shard(x_BLD)

    def pack(self, q_BlNH: Tensor, k_BlNH: Tensor, v_BlNH: Tensor) -> tuple[Tensor, ...]:
        return self._real.pack(q_BlNH, k_BlNH, v_BlNH)

    def heads(self, received: tuple[Tensor, ...], num_tokens: int) -> QKV:
        return self._real.heads(received, num_tokens)

    def tokens(self, received: tuple[Tensor, ...]) -> Tensor:
        return self._real.tokens(received)

    def gather(self, x_BlD: Tensor, num_tokens: int) -> Tensor:
        return self._active.gather(x_BlD, num_tokens)

    def scatter_heads(self, packed: tuple[Tensor, ...]) -> Exchange:
        return self._active.scatter_heads(packed)

    def gather_heads(self, out_BLnH: Tensor) -> Exchange:
        return self._active.gather_heads(out_BLnH)

    @property
    def _active(self) -> SequenceParallel:
        return self._silent if self.silent else self._real


class SilenceableMesh(ParallelMesh):
    """A mesh that knows the sequence parallelism of every DiT built on it."""

    @cached_property
    def sequences(self) -> list[SilenceableSequence]:
        return []

    def sequence_parallel(self) -> SequenceParallel:
        real = super().sequence_parallel()
        if isinstance(real, NoSequenceParallel):
            return real
        self.sequences.append(SilenceableSequence(real))
        return self.sequences[-1]

    def silence(self, silent: bool) -> None:
        """Stops all exchanges between the ranks, or has them back."""
        for sequence in self.sequences:
            sequence.silent = silent


@dataclass(frozen=True, slots=True)
class RandomExperts:
    """Experts on one rank.

    Args:
        dits: As many as a rank of a gang holds.
        sharding: What was done with their weights.
        attention: The kernel that they use.
    """

    dits: list[DiT]
    sharding: Sharding
    attention: AttentionBackend

    def as_loaded(self) -> Experts:
        """The pair as a rank that read a checkpoint has it; one alone stands for both."""
        return Experts(self.dits[0], self.dits[-1], self.attention, self.sharding)


def random_experts(
    case: DitCase, settings: DitSettings, device: torch.device, mesh: SilenceableMesh
) -> RandomExperts:
    """Builds what a case runs on, after what an earlier one has left is gone."""
    mesh.sequences.clear()
    forget_earlier(device)
    asked = ExpertSettings(
        sharding=Sharding(case.sharding.value),
        attention=AttentionBackend(case.attention.value),
        compiled=case.compiled,
        memory_share=settings.memory_share,
    )
    dtype: torch.dtype = getattr(torch, settings.dtype)
    attention = choose_attention(asked.attention, device=device, dtype=dtype)
    empty = build_dit(settings.config, asked, device=device, dtype=dtype, mesh=mesh)
    sharding = resolve_sharding(empty, asked, device=device, mesh=mesh)
    chosen = replace(asked, sharding=sharding, attention=attention)
    dits = [
        random_expert(settings.config, chosen, device=device, dtype=dtype, mesh=mesh)
        for _ in range(settings.experts)
    ]
    return RandomExperts(dits, sharding, attention)


def forget_earlier(device: torch.device) -> None:
    """Frees what nothing refers to any more but a compiler or an allocator."""
    torch.compiler.reset()  # compiled code holds on to the modules it was made for
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
