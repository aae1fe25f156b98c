"""Which rank works with which: the axes of one gang."""

from dataclasses import dataclass

import torch.distributed as dist
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from model.errors import ConfigurationError
from model.parallel.sequence import (
    NoSequenceParallel,
    SequenceParallel,
    UlyssesSequenceParallel,
)


@dataclass(frozen=True, slots=True)
class ParallelMesh:
    """The ranks of a gang seen twice: all of them, and in Ulysses groups of neighbours.

    FSDP shards over `everyone`. Ranks of one Ulysses group share the tokens of a clip; where the
    gang is larger than the group, the groups repeat the same work and only the weights are split.
    """

    everyone: DeviceMesh
    ulysses: ProcessGroup
    ulysses_degree: int

    @classmethod
    def create(cls, *, world_size: int, ulysses_degree: int, device_type: str) -> "ParallelMesh":
        """Builds the mesh; every rank calls this after `init_process_group`.

        Raises:
            ConfigurationError: The degree does not divide the gang, or the gang is not this size.
        """
        if world_size != dist.get_world_size():
            raise ConfigurationError(
                f"a mesh of {world_size} ranks over a process group of {dist.get_world_size()}"
            )
        if ulysses_degree < 1 or world_size % ulysses_degree:
            raise ConfigurationError(
                f"ulysses_degree {ulysses_degree} must divide the gang's size {world_size}"
            )
        everyone = init_device_mesh(device_type, (world_size,), mesh_dim_names=("everyone",))
        grid = init_device_mesh(
            device_type,
            (world_size // ulysses_degree, ulysses_degree),
            mesh_dim_names=("repeat", "ulysses"),
        )
        return cls(everyone, grid.get_group("ulysses"), ulysses_degree)

    def sequence_parallel(self) -> SequenceParallel:
        """The strategy the DiT is built with."""
        if self.ulysses_degree == 1:
            return NoSequenceParallel()
        rank = dist.get_rank(self.ulysses)
        return UlyssesSequenceParallel(self.ulysses_degree, rank, self.ulysses)
