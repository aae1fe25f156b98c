"""Which rank works with which: the axes of one gang."""

from dataclasses import dataclass

import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from model.errors import ConfigurationError
from model.parallel.guidance import NUM_BRANCHES, Guidance, SharedGuidance, SplitGuidance
from model.parallel.sequence import (
    NoSequenceParallel,
    SequenceParallel,
    UlyssesSequenceParallel,
)


@dataclass(frozen=True, slots=True)
class ParallelMesh:
    """The ranks of a gang seen twice: all of them, and on a grid.

    FSDP shards over `everyone`. The grid's last axis is a Ulysses group: neighbours, which share
    the tokens of a clip. Two such groups make a pair that shares the branches of guidance, where
    `cfg_parallel` asks for it. Where the gang is larger than that, its parts repeat the same work
    and only the weights are split.
    """

    everyone: DeviceMesh
    grid: DeviceMesh

    @classmethod
    def create(
        cls,
        *,
        world_size: int,
        ulysses_degree: int,
        device_type: str,
        cfg_parallel: bool = False,
    ) -> "ParallelMesh":
        """Builds the mesh; every rank calls this after `init_process_group`.

        Raises:
            ConfigurationError: The degrees do not divide the gang, or the gang is not this size.
        """
        if world_size != dist.get_world_size():
            raise ConfigurationError(
                f"a mesh of {world_size} ranks over a process group of {dist.get_world_size()}"
            )
        branches = NUM_BRANCHES if cfg_parallel else 1
        if ulysses_degree < 1 or world_size % (branches * ulysses_degree):
            times = f"{branches} times " if cfg_parallel else ""
            raise ConfigurationError(
                f"{times}ulysses_degree {ulysses_degree} must divide the gang's size {world_size}"
            )
        everyone = init_device_mesh(device_type, (world_size,), mesh_dim_names=("everyone",))
        shape = (world_size // (branches * ulysses_degree), branches, ulysses_degree)
        names = ("repeat", "guidance", "ulysses")
        return cls(everyone, init_device_mesh(device_type, shape, mesh_dim_names=names))

    @property
    def ulysses_degree(self) -> int:
        """Ranks that share the tokens of a clip."""
        return self.grid["ulysses"].size()

    def sequence_parallel(self) -> SequenceParallel:
        """The strategy the DiT is built with."""
        ulysses = self.grid["ulysses"]
        if ulysses.size() == 1:
            return NoSequenceParallel()
        return UlyssesSequenceParallel(
            ulysses.size(), ulysses.get_local_rank(), ulysses.get_group()
        )

    def guidance(self) -> Guidance:
        """Who computes which branch."""
        guidance = self.grid["guidance"]
        if guidance.size() == 1:
            return SharedGuidance()
        return SplitGuidance(guidance.get_local_rank(), guidance.get_group())
