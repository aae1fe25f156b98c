"""The program of the denoiser's gang: every rank holds its share of the DiT and denoises.

The owner pickles a `DenoiserFactory` to the ranks and imports this module for it, so the model
(and torch with it) is imported where the factory is called: in a rank.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.config import GangConfig
from cluster.program import Control, RankContext
from model.types import DenoiseRequest

if TYPE_CHECKING:
    from model.denoiser import Denoiser
    from model.experts import ExpertSettings


class DenoiseProgram:
    """Yields a `model.types.Step` after each solver step and the `model.types.Latents` last.

    Args:
        denoiser: This rank's share of the model.
    """

    def __init__(self, denoiser: "Denoiser") -> None:
        self._denoiser = denoiser

    def run(self, request: object, control: Control) -> Generator[object, None, None]:
        """Denoises one clip; a bidirectional model has no use for messages in mid-clip."""
        assert isinstance(request, DenoiseRequest)
        yield from self._denoiser.denoise(request)


@dataclass(frozen=True, slots=True)
class DenoiserFactory:
    """Loads the denoiser on a rank; a `cluster.program.ProgramFactory`.

    Args:
        checkpoint: Directory of the checkpoint, on every node.
        config: The gang; its dtype, sharding, attention and compilation are the model's.
    """

    checkpoint: str
    config: GangConfig

    def __call__(self, context: RankContext) -> DenoiseProgram:
        """Reads this rank's share of the weights.

        Raises:
            CheckpointError: The checkpoint is incomplete.
        """
        import torch

        from model.checkpoint.layout import locate_checkpoint
        from model.denoiser import Denoiser
        from model.parallel.mesh import ParallelMesh

        device = torch.device(context.device)
        mesh = ParallelMesh.create(
            world_size=context.world_size,
            ulysses_degree=context.ulysses_degree,
            device_type=device.type,
            cfg_parallel=self.config.cfg_parallel,
        )
        denoiser = Denoiser.load(
            locate_checkpoint(self.checkpoint),
            device=device,
            dtype=getattr(torch, self.config.dtype),
            mesh=mesh,
            settings=self._settings(),
        )
        return DenoiseProgram(denoiser)

    def _settings(self) -> "ExpertSettings":
        from model.attention import AttentionBackend
        from model.experts import ExpertSettings
        from model.parallel.sharding import Sharding

        return ExpertSettings(
            sharding=Sharding(self.config.sharding),
            attention=AttentionBackend(self.config.attention),
            compiled=self.config.compiled,
            memory_share=self.config.gpus_per_rank,
        )
