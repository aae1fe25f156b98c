"""What travels between the gateway, the pipeline and the stages, beside `model.types`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from autoscaling.cost import latent_tokens
from autoscaling.work import ClipWork
from deployments.ids import JobIds
from deployments.stills import Stills
from model.types import (
    CameraPath,
    FloatArray,
    SamplerSettings,
    SamplerState,
    UInt8Array,
    VideoShape,
)


class Stage(str, Enum):
    """The one word for each stage: file, class, deployment, event and metric label."""

    TEXT_ENCODER = "text_encoder"
    IMAGE_ENCODER = "image_encoder"
    VAE_ENCODER = "vae_encoder"
    DENOISER = "denoiser"
    VAE_DECODER = "vae_decoder"


class StageState(str, Enum):
    """Where a stage stands within one request."""

    STARTED = "started"
    STEP = "step"
    FINISHED = "finished"


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One clip to make, checked and complete: nothing in it is left to a default.

    Args:
        ids: Name the work, for cancelling it and in the log.
        prompt: What to show.
        negative_prompt: What not to show.
        image: The first frame before resizing, uint8 [H, W, 3], RGB.
        camera: Where the camera goes; None leaves the injection out.
        shape: Size of the clip.
        sampler: How the noise is removed.
        seed: Of the initial noise.
        return_tensors: Whether latents and frames come back beside the MP4.
        due_at_s: Unix time by which the clip should be done; None: whenever.
        size: "WxH" as it was asked for; `shape` has what the image's aspect made of it.
    """

    ids: JobIds
    prompt: str
    negative_prompt: str
    image: UInt8Array
    camera: CameraPath | None
    shape: VideoShape
    sampler: SamplerSettings
    seed: int
    return_tensors: bool = False
    due_at_s: float | None = None
    size: str = ""

    @property
    def work(self) -> ClipWork:
        """What the clip will cost a gang, and when it is due."""
        shape = self.shape
        tokens = latent_tokens(shape.num_frames, shape.height, shape.width)
        return ClipWork(tokens, self.sampler.num_inference_steps, self.due_at_s)

    @property
    def job_id(self) -> str:
        return self.ids.job_id


@dataclass(frozen=True, slots=True)
class StageEvent:
    """Progress of one stage of one request.

    Args:
        stage: Which stage.
        state: Whether it started, finished a step, or finished.
        index: Steps finished so far.
        total: Steps there are; 1 for a stage without steps.
        seconds: Since the stage started.
        started_at: Unix time of the stage's start, on the pipeline's clock.
    """

    stage: Stage
    state: StageState
    index: int
    total: int
    seconds: float
    started_at: float = 0.0


@dataclass(frozen=True, slots=True)
class DecodedVideo:
    """A finished clip as the decoder hands it over.

    Args:
        mp4: The H.264 file.
        frames: Uint8 [T, H, W, 3] where they were asked for.
        received_s: Unix time at which its latents arrived.
        ready_s: Unix time at which it was ready.
        stills: Pictures of it; None where nobody drew them.
    """

    mp4: bytes
    frames: UInt8Array | None
    received_s: float | None = None
    ready_s: float | None = None
    stills: Stills | None = None


@dataclass(frozen=True, slots=True)
class VideoResult:
    """The last item of a request's stream.

    Args:
        mp4: The H.264 file.
        latents: Float32 [16, f, h, w] where tensors were asked for.
        frames: Uint8 [T, H, W, 3] where tensors were asked for.
        stills: Pictures of the clip; None where nobody drew them.
        seconds: Length of the clip.
        record: What it takes to make it again; see `deployments.record`.
    """

    mp4: bytes
    latents: FloatArray | None
    frames: UInt8Array | None
    stills: Stills | None = None
    seconds: float | None = None
    record: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClipSettings:
    """What the denoiser needs of a request beside the encoders' results.

    Args:
        ids: Name the work, for cancelling it and in the log.
        camera: Where the camera goes.
        shape: Size of the clip.
        sampler: How the noise is removed.
        seed: Of the initial noise.
        sent_s: Unix time at which the encoders' results were ready.
        resume: Where an earlier attempt's denoise stopped; None: begin with noise.
        state_every: Steps between two `SamplerState`s; 0: none.
        caller: Name of the replica that waits for the clip, as Ray knows it.
    """

    ids: JobIds
    camera: CameraPath | None
    shape: VideoShape
    sampler: SamplerSettings
    seed: int
    sent_s: float | None = None
    resume: SamplerState | None = None
    state_every: int = 0
    caller: str = ""
