"""The program of the denoiser's gang: every rank holds its share of the DiT and denoises.

The owner pickles a `DenoiserFactory` to the ranks and imports this module for it, so the model
(and torch with it) is imported where the factory is called: in a rank.
"""

import os
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from cluster.config import GangConfig
from cluster.logs import get_logger
from cluster.metrics import timed
from cluster.program import RankContext
from model.types import DenoiseRequest, DenoiserFacts
from monitoring.stages import LOAD_SECONDS

if TYPE_CHECKING:
    import torch

    from model.denoiser import Denoiser
    from model.experts import ExpertSettings

logger = get_logger(__name__)

_STAGE = "denoiser"


class DenoiseProgram:
    """Yields a `model.types.Step` after each solver step and the `model.types.Latents` last.

    Args:
        denoiser: This rank's share of the model.
        facts: How it came to be.
    """

    def __init__(self, denoiser: "Denoiser", facts: DenoiserFacts) -> None:
        self._denoiser = denoiser
        self._facts = facts

    def facts(self) -> DenoiserFacts:
        """What this rank chose, as did all others."""
        return self._facts

    def run(self, request: object) -> Generator[object, None, None]:
        """Denoises one clip."""
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
        """Reads this rank's share of the weights, then runs a first clip.

        Raises:
            CheckpointError: The checkpoint is incomplete.
            ConfigurationError: The settings do not fit the checkpoint or the hardware.
        """
        import torch

        from model.warm_up import warm_up

        if self.config.compile_cache_dir is not None:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(self.config.compile_cache_dir)
        device = torch.device(context.device)
        begin_s = time.monotonic()
        with timed(LOAD_SECONDS, stage=_STAGE, phase="weights"):
            denoiser = self._load(context, device)
        loaded_s = time.monotonic()
        with timed(LOAD_SECONDS, stage=_STAGE, phase="warm_up"):
            warm_up(denoiser, device=device, compiled=self.config.compiled)
        warm_s = time.monotonic()
        facts = DenoiserFacts(
            attention=denoiser.experts.attention.value,
            sharding=denoiser.experts.sharding.value,
            compiled=self.config.compiled,
            cfg_parallel=self.config.cfg_parallel,
            ranks=context.world_size,
            ulysses_degree=context.ulysses_degree,
            dtype=self.config.dtype,
            load_s=round(loaded_s - begin_s, 3),
            warm_up_s=round(warm_s - loaded_s, 3),
        )
        logger.info("denoiser_ready", **asdict(facts))
        return DenoiseProgram(denoiser, facts)

    def _load(self, context: RankContext, device: "torch.device") -> "Denoiser":
        import torch

        from model.checkpoint.layout import locate_checkpoint
        from model.denoiser import Denoiser
        from model.parallel.mesh import ParallelMesh

        mesh = ParallelMesh.create(
            world_size=context.world_size,
            ulysses_degree=context.ulysses_degree,
            device_type=device.type,
            cfg_parallel=self.config.cfg_parallel,
        )
        return Denoiser.load(
            locate_checkpoint(self.checkpoint),
            device=device,
            dtype=getattr(torch, self.config.dtype),
            mesh=mesh,
            settings=self._settings(),
        )

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
