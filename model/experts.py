"""The two DiTs of a checkpoint: built on the meta device, split over the gang, then loaded."""

import logging
from dataclasses import dataclass

import torch

from model.attention import AttentionBackend, attention_kernel, choose_attention
from model.block import EAGER
from model.checkpoint.dit import dit_key_map
from model.checkpoint.layout import CheckpointPaths
from model.checkpoint.load import load_module
from model.checkpoint.random_source import RandomSource
from model.checkpoint.tensors import open_safetensors
from model.compilation import compiled_stages
from model.config import DiTConfig, read_dit_config
from model.dit import DiT
from model.errors import ConfigurationError
from model.parallel.mesh import ParallelMesh
from model.parallel.parallelize import shard_dit
from model.parallel.sequence import NoSequenceParallel
from model.parallel.sharding import Sharding, choose_sharding, device_memory
from model.types import NUM_TRAIN_TIMESTEPS

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Experts:
    """The two DiTs; timesteps at or above the boundary belong to the high-noise one.

    Args:
        high_noise: One.
        low_noise: The other.
        attention: Their kernel.
        sharding: How their weights are split.
    """

    high_noise: DiT
    low_noise: DiT
    attention: AttentionBackend
    sharding: Sharding

    def choose(self, timestep: int, boundary_ratio: float) -> DiT:
        """The expert of a timestep."""
        is_high = timestep >= boundary_ratio * NUM_TRAIN_TIMESTEPS
        return self.high_noise if is_high else self.low_noise


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertSettings:
    """How the experts compute.

    Args:
        sharding: Whether a gang's ranks split the weights.
        attention: Which attention kernel.
        compiled: Run the blocks through torch.compile.
        memory_share: Part of the GPU's memory that is this process's.
    """

    sharding: Sharding = Sharding.AUTO
    attention: AttentionBackend = AttentionBackend.AUTO
    compiled: bool = False
    memory_share: float = 1.0


def load_experts(
    checkpoint: CheckpointPaths,
    settings: ExpertSettings,
    *,
    device: torch.device,
    dtype: torch.dtype,
    mesh: ParallelMesh | None,
) -> Experts:
    """Builds both experts and reads this rank's part of their weights.

    Args:
        checkpoint: Where the experts lie.
        settings: How they compute.
        device: This rank's.
        dtype: Of weights and matrix products.
        mesh: The gang's ranks; None for one process alone.

    Raises:
        ConfigurationError: The Ulysses degree does not divide the heads, the weights do not fit
            the memory, or they are to be sharded without a mesh.
        CheckpointError: The weights do not fit the model.
    """
    config = read_dit_config(checkpoint)
    if mesh is not None:
        config.check_ulysses_degree(mesh.ulysses_degree)
    attention = choose_attention(settings.attention, device=device, dtype=dtype)
    logger.info("attention %s (%s asked for)", attention.value, settings.attention.value)
    experts = [build_dit(config, settings, device=device, dtype=dtype, mesh=mesh) for _ in range(2)]
    sharding = resolve_sharding(experts[0], settings, device=device, mesh=mesh)
    key_map = dit_key_map(checkpoint.layout)
    for dit, directory in zip(experts, (checkpoint.high_noise, checkpoint.low_noise), strict=True):
        parallelize(dit, sharding, mesh)
        load_module(
            dit, open_safetensors(directory, "diffusion_pytorch_model"), key_map, device=device
        )
    high_noise, low_noise = experts
    return Experts(high_noise, low_noise, attention, sharding)


def random_expert(
    config: DiTConfig,
    settings: ExpertSettings,
    *,
    device: torch.device,
    dtype: torch.dtype,
    mesh: ParallelMesh | None = None,
) -> DiT:
    """One expert without a checkpoint: speed does not depend on the weights.

    Args:
        config: Its size.
        settings: How it computes; `Sharding.AUTO` leaves it whole.
        device: This rank's.
        dtype: Of weights and matrix products.
        mesh: The gang's ranks; None for one process alone.
    """
    dit = build_dit(config, settings, device=device, dtype=dtype, mesh=mesh)
    source = RandomSource(dit, device)
    sharding = Sharding.NONE if settings.sharding is Sharding.AUTO else settings.sharding
    parallelize(dit, sharding, mesh)
    load_module(dit, source, device=device)
    return dit


def build_dit(
    config: DiTConfig,
    settings: ExpertSettings,
    *,
    device: torch.device,
    dtype: torch.dtype,
    mesh: ParallelMesh | None,
) -> DiT:
    """One expert on the meta device, with the parallelism of the mesh injected."""
    sequence = NoSequenceParallel() if mesh is None else mesh.sequence_parallel()
    backend = choose_attention(settings.attention, device=device, dtype=dtype)
    stages = compiled_stages() if settings.compiled else EAGER
    with torch.device("meta"):
        dit = DiT(config, sequence=sequence, attention=attention_kernel(backend), stages=stages)
    return dit.to(dtype)


def resolve_sharding(
    dit: DiT, settings: ExpertSettings, *, device: torch.device, mesh: ParallelMesh | None
) -> Sharding:
    """The sharding that the setting means here, decided alike by all ranks.

    Raises:
        ConfigurationError: The weights do not fit, or there are no ranks to split them over.
    """
    if mesh is None and settings.sharding not in (Sharding.AUTO, Sharding.NONE):
        raise ConfigurationError(
            f"sharding {settings.sharding.value} splits over a gang; alone it must be none or auto"
        )
    memory = device_memory(device, mesh, settings.memory_share)
    if memory is None:
        return Sharding.NONE if settings.sharding is Sharding.AUTO else settings.sharding
    sharding = choose_sharding(
        settings.sharding,
        expert_bytes=expert_bytes(dit),
        memory_bytes=memory,
        world_size=1 if mesh is None else mesh.everyone.size(),
    )
    logger.info(
        "sharding %s (%s asked for, %.0f GiB at hand)",
        sharding.value,
        settings.sharding.value,
        memory / 2**30,
    )
    return sharding


def parallelize(dit: DiT, sharding: Sharding, mesh: ParallelMesh | None) -> None:
    """Shards one expert over a gang; alone there is nobody to share with."""
    if mesh is not None:
        shard_dit(dit, mesh.everyone, sharding)


def expert_bytes(dit: DiT) -> int:
    """Bytes of an expert's weights, of all ranks together."""
    return sum(weight.numel() * weight.element_size() for weight in dit.parameters())
