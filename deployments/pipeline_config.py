"""Settings of the application that makes clips: its stages and their gangs."""

from typing import Literal

from pydantic import Field, model_validator

from autoscaling.config import GangScaling, StageScaling
from cluster.config import GangConfig
from cluster.logs import LogConfig
from deployments.settings import AbsolutePath, LabelSelector, Settings
from model.checkpoint.manifest import ManifestCheck

_REST_START_S = 600.0  # of all but the gang: Ray, Serve, imports, the other stages' weights


class StageConfig(Settings):
    """Replicas and resources of one stage.

    Args:
        num_replicas: How many, where `scaling` is absent.
        scaling: Bounds instead of a fixed number; the stage follows the gangs, which scale too.
        num_cpus: Reserved by each replica; fractions are allowed.
        num_gpus: Reserved by each replica; fractions share a GPU.
        device: Where the weights live.
        dtype: Of weights and arithmetic.
        threads: CPU threads of torch; None leaves its choice.
        timeout_s: How long a clip waits for the stage's answer, or the next part of it, before it
            is tried again.
        label_selector: Labels that the nodes must have, as `ray start --labels` gives them.
    """

    num_replicas: int = Field(default=1, ge=1)
    scaling: StageScaling | None = None
    num_cpus: float = Field(default=1.0, ge=0)
    num_gpus: float = Field(default=0.0, ge=0)
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    threads: int | None = Field(default=None, ge=1)
    timeout_s: float = Field(default=600.0, gt=0)
    label_selector: LabelSelector = Field(default_factory=dict)

    @model_validator(mode="after")
    def _cuda_needs_a_share(self) -> "StageConfig":
        if self.device == "cuda" and self.num_gpus == 0:
            raise ValueError("device cuda needs num_gpus; give the stage a fraction such as 0.2")
        return self

    @property
    def max_replicas(self) -> int:
        return self.scaling.max_replicas if self.scaling else self.num_replicas


class VAEStageConfig(StageConfig):
    """A stage of the VAE.

    Args:
        dtype: Of weights and arithmetic.
        compiled: Run the network through torch.compile; for GPUs.
    """

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"  # type: ignore[assignment]
    compiled: bool = False


class DenoiserConfig(Settings):
    """Gangs: how many, and what each is made of.

    Args:
        num_replicas: Gangs, where `scaling` is absent.
        scaling: Bounds and knobs of the policy instead of a fixed number.
        gang: The ranks, and what their owner reserves.
        queue_timeout_s: How long a clip waits beside the gangs before it goes back into the queue;
            once one has begun with it, the gang's own deadlines hold.
        checkpoint_every_steps: Steps after which a denoise could be gone on with by another gang;
            0: each begins anew. What is kept is four times the size of the latents.
        label_selector: Labels that the nodes of a gang must have.
    """

    num_replicas: int = Field(default=1, ge=1)
    scaling: GangScaling | None = None
    gang: GangConfig = GangConfig()
    queue_timeout_s: float = Field(default=4 * 3600.0, gt=0)
    checkpoint_every_steps: int = Field(default=0, ge=0)
    label_selector: LabelSelector = Field(default_factory=dict)

    @property
    def max_replicas(self) -> int:
        return self.scaling.max_replicas if self.scaling else self.num_replicas

    @property
    def clips_per_gang(self) -> int:
        """Clips that Serve gives a gang at once.

        A lone gang has the next clip in its own queue, so that no time passes between two. Where
        there are several, that clip would wait behind one that may take long while another is free.
        """
        return 1 if self.max_replicas > 1 else 2


class PipelineConfig(Settings):
    """The application that makes clips.

    Args:
        checkpoint: Directory in the published or diffusers' layout, the same path on every node.
        manifest: How much of it is held against its manifest at the start: "off", "sizes" (no time
            at all), or "content", which reads everything once more and wants a manifest.
        text_encoder: The T5 stage.
        image_encoder: The CLIP stage; unused where the checkpoint has no image branch.
        vae_encoder: The stage that encodes the first frame.
        denoiser: The gangs.
        vae_decoder: The stage that decodes and writes the MP4.
        num_cpus: Reserved by the replica that composes the stages.
        label_selector: Labels that its node must have.
        text_cache_entries: Encoded prompts that each text encoder keeps.
        longest_clip_s: How long a stage may still work when it is told to stop.
        logging: How its processes write their log.
    """

    checkpoint: AbsolutePath
    manifest: ManifestCheck = ManifestCheck.SIZES
    text_encoder: StageConfig = StageConfig()
    image_encoder: StageConfig = StageConfig()
    vae_encoder: VAEStageConfig = VAEStageConfig()
    denoiser: DenoiserConfig = DenoiserConfig()
    vae_decoder: VAEStageConfig = VAEStageConfig(timeout_s=1800.0)
    num_cpus: float = Field(default=0.1, ge=0)
    label_selector: LabelSelector = Field(default_factory=dict)
    text_cache_entries: int = Field(default=256, ge=1)
    longest_clip_s: float = Field(default=3600.0, gt=0)
    logging: LogConfig = LogConfig()

    @property
    def encoders_and_decoder(self) -> tuple[StageConfig, ...]:
        """Every stage but the gangs."""
        return self.text_encoder, self.image_encoder, self.vae_encoder, self.vae_decoder

    @property
    def longest_start_s(self) -> float:
        """How long a start may take: the gang's own bound, and what all else may need before it."""
        return _REST_START_S + self.denoiser.gang.start_timeout_s

    @property
    def followers(self) -> dict[str, StageScaling]:
        """The scaling of every stage but the gangs, by name, of those that scale."""
        names = ("text_encoder", "image_encoder", "vae_encoder", "vae_decoder")
        stages = zip(names, self.encoders_and_decoder, strict=True)
        return {name: stage.scaling for name, stage in stages if stage.scaling is not None}

    @model_validator(mode="after")
    def _followers_have_a_leader(self) -> "PipelineConfig":
        if self.followers and self.denoiser.scaling is None:
            raise ValueError(
                f"{', '.join(self.followers)} would follow the gangs, whose number is fixed; give "
                "the denoiser scaling too, or these stages num_replicas"
            )
        return self

    @model_validator(mode="after")
    def _shares_leave_room_for_ranks(self) -> "PipelineConfig":
        gang = self.denoiser.gang
        shares = sum(stage.max_replicas * stage.num_gpus for stage in self.encoders_and_decoder)
        # Ray packs fractions onto as few GPUs as it can, and may do so before the gang comes.
        if gang.device == "cuda" and gang.gpus_per_rank < 1 < gang.gpus_per_rank + shares - 1e-6:
            raise ValueError(
                f"the other stages' num_gpus add up to {shares:g}: with gpus_per_rank "
                f"{gang.gpus_per_rank:g} they must fit into the {1 - gang.gpus_per_rank:g} left of "
                "one GPU, or they could crowd out a rank"
            )
        return self
