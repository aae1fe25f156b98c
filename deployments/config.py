"""The one configuration file: every setting, checked when it is read, frozen after."""

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from autoscaling.config import GangScaling, StageScaling
from cluster.config import GangConfig
from cluster.logs import LogConfig
from cluster.placement import replica_bundles
from deployments.names import PIPELINE
from deployments.presets import PRESETS, GenerationDefaults
from model.errors import ConfigurationError
from model.types import Solver

# Replicas work in other folders than whoever wrote the file.
AbsolutePath = Annotated[Path, AfterValidator(Path.absolute)]

# Ray's own syntax: a value, one that must not be there, or a choice of several.
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_LABELS = rf"!?in\({_LABEL}(,{_LABEL})*\)"
LabelKey = Annotated[str, Field(pattern=rf"^([a-z0-9.-]+/)?{_LABEL}$", max_length=253)]
LabelCondition = Annotated[str, Field(pattern=rf"^(!?{_LABEL}|{_LABELS})$")]
LabelSelector = dict[LabelKey, LabelCondition]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StageConfig(_Settings):
    """Replicas and resources of one stage.

    Args:
        num_replicas: How many, where `scaling` is absent.
        scaling: Bounds instead of a fixed number; the stage follows the gangs, which scale too.
        num_cpus: Reserved by each replica; fractions are allowed.
        num_gpus: Reserved by each replica; fractions share a GPU.
        device: Where the weights live.
        dtype: Of weights and arithmetic.
        threads: CPU threads of torch; None leaves its choice.
        label_selector: Labels that the nodes must have, as `ray start --labels` gives them.
    """

    num_replicas: int = Field(default=1, ge=1)
    scaling: StageScaling | None = None
    num_cpus: float = Field(default=1.0, ge=0)
    num_gpus: float = Field(default=0.0, ge=0)
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    threads: int | None = Field(default=None, ge=1)
    label_selector: LabelSelector = {}

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


class DenoiserConfig(_Settings):
    """Gangs: how many, and what each is made of.

    Args:
        num_replicas: Gangs, where `scaling` is absent.
        scaling: Bounds and knobs of the policy instead of a fixed number.
        gang: The ranks, and what their owner reserves.
        label_selector: Labels that the nodes of a gang must have.
    """

    num_replicas: int = Field(default=1, ge=1)
    scaling: GangScaling | None = None
    gang: GangConfig = GangConfig()
    label_selector: LabelSelector = {}

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


class PipelineConfig(_Settings):
    """The application that makes clips.

    Args:
        checkpoint: Directory in the published or diffusers' layout, the same path on every node.
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
    text_encoder: StageConfig = StageConfig()
    image_encoder: StageConfig = StageConfig()
    vae_encoder: VAEStageConfig = VAEStageConfig()
    denoiser: DenoiserConfig = DenoiserConfig()
    vae_decoder: VAEStageConfig = VAEStageConfig()
    num_cpus: float = Field(default=0.1, ge=0)
    label_selector: LabelSelector = {}
    text_cache_entries: int = Field(default=256, ge=1)
    longest_clip_s: float = Field(default=3600.0, gt=0)
    logging: LogConfig = LogConfig()

    @property
    def encoders_and_decoder(self) -> tuple[StageConfig, ...]:
        """Every stage but the gangs."""
        return self.text_encoder, self.image_encoder, self.vae_encoder, self.vae_decoder

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


class GenerationOverrides(_Settings):
    """Fields of the preset to replace; see `GenerationDefaults`."""

    width: int | None = Field(default=None, ge=16)
    height: int | None = Field(default=None, ge=16)
    num_frames: int | None = Field(default=None, ge=1)
    num_inference_steps: int | None = Field(default=None, ge=1)
    guidance_scale: float | None = None
    guidance_scale_2: float | None = None
    flow_shift: float | None = Field(default=None, gt=0)
    boundary_ratio: float | None = Field(default=None, ge=0, le=1)
    sampler: Solver | None = None


class Limits(_Settings):
    """The most that one request may ask for.

    Args:
        max_area: Pixels of a frame.
        max_num_frames: Frames of a clip.
        max_inference_steps: Solver steps.
        max_prompt_tokens: Tokens of a prompt; the model attends 512.
        max_poses: Rows of a camera path.
        max_body_bytes: Bytes of a request body.
        max_image_pixels: Pixels of the uploaded image, read off its header.
        max_queued_jobs: Jobs that wait; one more is told to come back.
    """

    max_area: int = Field(default=1280 * 720, ge=256)
    max_num_frames: int = Field(default=961, ge=1)
    max_inference_steps: int = Field(default=100, ge=1)
    max_prompt_tokens: int = Field(default=512, ge=1)
    max_poses: int = Field(default=4096, ge=1)
    max_body_bytes: int = Field(default=32 * 2**20, ge=2**10)
    max_image_pixels: int = Field(default=40_000_000, ge=256)
    max_queued_jobs: int = Field(default=64, ge=1)


class TracingConfig(_Settings):
    """Where the traces of jobs go.

    Args:
        otlp_endpoint: Address of an OpenTelemetry collector's HTTP port, such as
            `http://collector:4318`; None leaves it to `OTEL_EXPORTER_OTLP_ENDPOINT`, and without
            that nothing is traced.
    """

    otlp_endpoint: str | None = Field(default=None, pattern=r"^https?://\S+$")


class GatewayConfig(_Settings):
    """The application that speaks HTTP and keeps the jobs.

    Args:
        data_dir: Folder of the finished clips and of the inputs that wait.
        database_url: SQLAlchemy's, of PostgreSQL or SQLite; None means a SQLite file in `data_dir`.
        database_url_file: File that holds the URL, where it carries a password.
        model_name: What the API calls the model.
        preset: Name in `deployments.presets.PRESETS`.
        defaults: Overrides of the preset.
        limits: The most that a request may ask for.
        max_concurrent_jobs: Jobs handed to the pipeline at once; None follows the gangs that run:
            two for each, one that encodes and one that decodes keep every stage busy.
        pipeline: Name of the Serve application that makes the clips.
        num_cpus: Reserved by the gateway.
        label_selector: Labels that its node must have.
        pipeline_timeout_s: Longest wait for a short answer of the pipeline.
        report_interval_s: How often the pipeline hears what waits here.
        wait_objective_s: How long a job should wait at most; the metrics count which did.
        lease_s: How long a job stays with a gateway that no longer gives a sign of life.
        drain_timeout_s: How long a gateway that is replaced may still finish its running jobs.
        logging: How the gateway writes its log.
        tracing: Where the traces of its jobs go.
    """

    data_dir: AbsolutePath = Path("data").absolute()
    database_url: str | None = None
    database_url_file: AbsolutePath | None = None
    model_name: str = "lingbot-world-base-cam"
    preset: str = "480*832"
    defaults: GenerationOverrides = GenerationOverrides()
    limits: Limits = Limits()
    max_concurrent_jobs: int | None = Field(default=None, ge=1)
    pipeline: str = PIPELINE
    num_cpus: float = Field(default=0.1, ge=0)
    label_selector: LabelSelector = {}
    pipeline_timeout_s: float = Field(default=10.0, gt=0)
    report_interval_s: float = Field(default=1.0, gt=0)
    wait_objective_s: float = Field(default=600.0, gt=0)
    lease_s: float = Field(default=30.0, ge=2)
    drain_timeout_s: float = Field(default=3600.0, gt=0)
    rollout: str = ""
    logging: LogConfig = LogConfig()
    tracing: TracingConfig = TracingConfig()

    @model_validator(mode="after")
    def _one_database(self) -> "GatewayConfig":
        if self.database_url is not None and self.database_url_file is not None:
            raise ValueError("give database_url or database_url_file, not both")
        return self

    @model_validator(mode="after")
    def _preset_exists(self) -> "GatewayConfig":
        if self.preset not in PRESETS:
            raise ValueError(f"preset {self.preset!r} is none of {', '.join(PRESETS)}")
        return self

    @property
    def generation(self) -> GenerationDefaults:
        """The preset with its overrides."""
        overrides = self.defaults.model_dump(exclude_none=True)
        return PRESETS[self.preset].model_copy(update=overrides)

    def store_url(self) -> str:
        """Where the jobs are kept; reads `database_url_file`.

        Raises:
            ConfigurationError: The file cannot be read or is empty.
        """
        if self.database_url_file is None:
            return self.database_url or f"sqlite:///{self.data_dir / 'jobs.sqlite'}"
        try:
            url = self.database_url_file.read_text().strip()
        except OSError as error:
            raise ConfigurationError(f"gateway.database_url_file: {error}") from error
        if not url:
            raise ConfigurationError(
                f"gateway.database_url_file: {self.database_url_file} is empty"
            )
        return url


class HttpConfig(_Settings):
    """Where the gateway listens."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)


_HANDED_DOWN = MappingProxyType({"pipeline": ("logging",), "gateway": ("logging", "tracing")})


class ServeConfig(_Settings):
    """The whole service, on a laptop as on a cluster.

    Args:
        pipeline: The application that makes clips.
        gateway: The application that speaks HTTP.
        http: Where the gateway listens.
        logging: For both applications, where they set none of their own.
        tracing: For the gateway, likewise.
    """

    pipeline: PipelineConfig
    gateway: GatewayConfig = GatewayConfig()
    http: HttpConfig = HttpConfig()
    logging: LogConfig = LogConfig()
    tracing: TracingConfig = TracingConfig()

    @model_validator(mode="before")
    @classmethod
    def _hand_down(cls, raw: object) -> object:
        """Serve gives each application its own arguments only."""
        if not isinstance(raw, Mapping):
            return raw
        below = {
            application: {name: raw[name] for name in names if name in raw}
            for application, names in _HANDED_DOWN.items()
        }
        return merge({name: given for name, given in below.items() if given}, raw)

    def read_by(self, *, terminal: bool) -> "ServeConfig":
        """The same service with `logging.format: auto` decided: its processes have no terminal.

        Args:
            terminal: Whether whoever starts the service sits at one.
        """
        settings = self.model_dump(exclude_unset=True)
        chosen = {"format": "console" if terminal else "json"}
        for section in (settings, settings["pipeline"], settings.setdefault("gateway", {})):
            logging = section.setdefault("logging", {})
            if logging.get("format", "auto") == "auto":
                section["logging"] = {**logging, **chosen}
        return ServeConfig.model_validate(settings)

    @property
    def logical_cpus(self) -> int:
        """CPUs that a local Ray has to announce so that everything finds a place."""
        pipeline = self.pipeline
        replicas = sum(s.max_replicas * s.num_cpus for s in pipeline.encoders_and_decoder)
        gang = sum(bundle["CPU"] for bundle in replica_bundles(pipeline.denoiser.gang))
        gangs = pipeline.denoiser.max_replicas * gang
        # Twice: an updated gateway starts beside the one that it replaces.
        return math.ceil(replicas + gangs + pipeline.num_cpus + 2 * self.gateway.num_cpus)

    @classmethod
    def from_yaml(cls, path: str | Path, **overrides: object) -> "ServeConfig":
        """Reads a file and lays overrides over it.

        Args:
            path: The YAML file.
            overrides: Sections to lay over the file's, merged key by key, such as
                `pipeline={"denoiser": {"gang": {"size": 4}}}`.

        Raises:
            ConfigurationError: Unreadable, an unknown key, or a value that cannot work.
        """
        try:
            raw = yaml.safe_load(Path(path).read_text())
            return cls.model_validate(merge(raw if isinstance(raw, dict) else {}, overrides))
        except ValidationError as error:
            raise ConfigurationError(f"{path}: {explain(error)}") from error
        except (OSError, yaml.YAMLError) as error:
            raise ConfigurationError(f"{path}: {error}") from error


def explain(error: ValidationError) -> str:
    """What is wrong with some settings, a line each: where, and why."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    where = [".".join(map(str, fault["loc"])) or "file" for fault in faults]
    why = [fault["msg"].removeprefix("Value error, ") for fault in faults]
    return "\n".join(map(": ".join, zip(where, why, strict=True)))


def merge(base: Mapping[str, object], over: Mapping[str, object]) -> dict[str, object]:
    """Lays one tree of settings over another; a mapping merges, anything else replaces."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        merged[key] = merge(below, value) if both else value  # type: ignore[arg-type]
    return merged
