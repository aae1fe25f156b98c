"""Settings of the application that speaks HTTP and keeps the jobs."""

from pathlib import Path

from pydantic import Field, model_validator

from cluster.logs import LogConfig
from deployments.api.event_settings import EventSettings
from deployments.api.presets import PRESETS, GenerationDefaults
from deployments.artifacts.config import ArtifactSettings
from deployments.images.config import FetchConfig
from deployments.jobs.retries import RetrySettings
from deployments.jobs.scheduling import SchedulingConfig
from deployments.keys.settings import AuthSettings
from deployments.names import PIPELINE
from deployments.settings import AbsolutePath, LabelSelector, Settings
from deployments.webhooks.settings import WebhookSettings
from model.errors import ConfigurationError
from model.types import Solver


class GenerationOverrides(Settings):
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


class Limits(Settings):
    """The most that one request may ask for.

    Args:
        max_area: Pixels of a frame.
        max_num_frames: Frames of a clip.
        max_inference_steps: Solver steps.
        max_prompt_tokens: Tokens of a prompt; the model attends 512.
        max_poses: Rows of a camera path.
        max_body_bytes: Bytes of a request body.
        body_timeout_s: How long a request body may take to come in.
        max_image_pixels: Pixels of the uploaded image, read off its header.
        max_queued_jobs: Jobs that wait; one more is told to come back.
    """

    max_area: int = Field(default=1280 * 720, ge=256)
    max_num_frames: int = Field(default=961, ge=1)
    max_inference_steps: int = Field(default=100, ge=1)
    max_prompt_tokens: int = Field(default=512, ge=1)
    max_poses: int = Field(default=4096, ge=1)
    max_body_bytes: int = Field(default=32 * 2**20, ge=2**10)
    body_timeout_s: float = Field(default=60.0, gt=0)
    max_image_pixels: int = Field(default=40_000_000, ge=256)
    max_queued_jobs: int = Field(default=64, ge=1)


class TracingConfig(Settings):
    """Where the traces of jobs go.

    Args:
        otlp_endpoint: Address of an OpenTelemetry collector's HTTP port, such as
            `http://collector:4318`; None leaves it to `OTEL_EXPORTER_OTLP_ENDPOINT`, and without
            that nothing is traced.
    """

    otlp_endpoint: str | None = Field(default=None, pattern=r"^https?://\S+$")


class GatewayConfig(Settings):
    """The application that speaks HTTP and keeps the jobs.

    Args:
        data_dir: Folder of the jobs, and of their files unless `artifacts` names another place.
        artifacts: Where the finished clips and the inputs that wait are kept, and for how long.
        database_url: SQLAlchemy's, of PostgreSQL or SQLite; None means a SQLite file in `data_dir`.
        database_url_file: File that holds the URL, where it carries a password.
        model_name: What the API calls the model.
        preset: Name in `deployments.api.presets.PRESETS`.
        defaults: Overrides of the preset.
        limits: The most that a request may ask for.
        scheduling: Which jobs are taken into the queue.
        fetch: Whether images are fetched from addresses that requests name.
        max_concurrent_jobs: Jobs handed to the pipeline at once; None follows the gangs that run:
            two for each, one that encodes and one that decodes keep every stage busy.
        pipeline: Name of the Serve application that makes the clips.
        num_replicas: Gateways; more than one share a PostgreSQL.
        num_cpus: Reserved by each gateway.
        label_selector: Labels that its node must have.
        pipeline_timeout_s: Longest wait for a short answer of the pipeline.
        pipeline_silence_s: Longest wait for the next word of a clip under way; longer than the
            denoiser's `queue_timeout_s`, for which a clip that waits beside the gangs is silent.
        report_interval_s: How often the pipeline hears what waits here.
        wait_objective_s: How long a job should wait at most; the metrics count which did.
        events: Bounds of the event streams.
        repeat_window_s: How long a retry that carries no `Idempotency-Key` still finds the job of
            the request before it; 0 makes a job of every one.
        lease_s: How long a job stays with a gateway that no longer gives a sign of life.
        retries: How often and how soon failed work is tried again.
        drain_timeout_s: How long a gateway that is replaced may still finish its running jobs.
        logging: How the gateway writes its log.
        tracing: Where the traces of its jobs go.
        auth: Who may call.
        webhooks: How the ends of jobs are told to those who asked for it.
    """

    data_dir: AbsolutePath = Path("data").absolute()
    artifacts: ArtifactSettings = ArtifactSettings()
    database_url: str | None = None
    database_url_file: AbsolutePath | None = None
    model_name: str = "lingbot-world-base-cam"
    preset: str = "480*832"
    defaults: GenerationOverrides = GenerationOverrides()
    limits: Limits = Limits()
    scheduling: SchedulingConfig = SchedulingConfig()
    fetch: FetchConfig = FetchConfig()
    max_concurrent_jobs: int | None = Field(default=None, ge=1)
    pipeline: str = PIPELINE
    num_replicas: int = Field(default=1, ge=1)
    num_cpus: float = Field(default=0.1, ge=0)
    label_selector: LabelSelector = Field(default_factory=dict)
    pipeline_timeout_s: float = Field(default=10.0, gt=0)
    pipeline_silence_s: float = Field(default=5 * 3600.0, gt=0)
    report_interval_s: float = Field(default=1.0, gt=0)
    wait_objective_s: float = Field(default=600.0, gt=0)
    events: EventSettings = EventSettings()
    repeat_window_s: float = Field(default=30.0, ge=0)
    lease_s: float = Field(default=30.0, ge=2)
    retries: RetrySettings = RetrySettings()
    drain_timeout_s: float = Field(default=3600.0, gt=0)
    rollout: str = ""
    logging: LogConfig = LogConfig()
    tracing: TracingConfig = TracingConfig()
    auth: AuthSettings = AuthSettings()
    webhooks: WebhookSettings = WebhookSettings()

    @model_validator(mode="after")
    def _one_database(self) -> "GatewayConfig":
        if self.database_url is not None and self.database_url_file is not None:
            raise ValueError("give database_url or database_url_file, not both")
        return self

    @model_validator(mode="after")
    def _replicas_share_a_server(self) -> "GatewayConfig":
        if self.num_replicas > 1 and self.database_url is None and self.database_url_file is None:
            raise ValueError(
                f"num_replicas {self.num_replicas} share a PostgreSQL: give database_url or "
                "database_url_file, or leave num_replicas at 1"
            )
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

    @property
    def artifacts_url(self) -> str:
        """Where the files of jobs are kept."""
        return f"{self.artifacts.url or self.data_dir.as_uri()}/videos"

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
