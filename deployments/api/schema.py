"""The bodies of the HTTP API: OpenAI's video object plus the fields of this model."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from deployments.jobs.tables import Job
from model.types import FPS, Solver

Guidance = Annotated[float, Field(ge=0, le=100)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ImageReference(_Body):
    """An image inside the body: `data:image/png;base64,…`."""

    image_url: str


class CameraBody(BaseModel):
    """A camera path as numbers; `model.geometry.check_camera` has the last word.

    Args:
        poses: Camera-to-world matrices [N,4,4], OpenCV axes.
        intrinsics: Rows of fx, fy, cx, cy in pixels of an 832x480 image; only row 0 is used.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    poses: list[list[list[float]]]
    intrinsics: list[list[float]]


def _whole_seconds(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


class VideoCreate(_Body):
    """Fields of `POST /v1/videos`; each one left out takes the preset's value.

    Args:
        prompt: What to show.
        model: Must be the served model's name where it is sent.
        seconds: Length of the clip; an alternative to `num_frames`.
        size: "WxH": an area; the aspect is that of the image.
        num_frames: 4n+1.
        fps: Only 16.
        seed: Of the initial noise; random where it is left out.
        negative_prompt: What not to show; the published one where it is left out.
        num_inference_steps: Solver steps.
        guidance_scale: Guidance of the high-noise expert.
        guidance_scale_2: Guidance of the low-noise expert.
        flow_shift: Shift of the sigma schedule.
        boundary_ratio: Where the high-noise expert hands over.
        sampler: "unipc" or "dpm++".
        camera: Where the camera goes.
        input_reference: The first frame, unless it is uploaded as a file.
        return_tensors: Whether `/content?variant=tensors` will have latents and frames.
        deadline_s: Seconds from now within which the clip should be done; gangs are added in time
            for it where there is room. A clip that is late is still made.
    """

    prompt: str = Field(min_length=1)
    model: str | None = None
    seconds: Annotated[int, BeforeValidator(_whole_seconds)] | None = Field(default=None, ge=1)
    size: str | None = Field(default=None, pattern=r"^[1-9]\d{0,4}x[1-9]\d{0,4}$")
    num_frames: int | None = Field(default=None, ge=1)
    fps: int = FPS
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    negative_prompt: str | None = None
    num_inference_steps: int | None = Field(default=None, ge=1)
    guidance_scale: Guidance | None = None
    guidance_scale_2: Guidance | None = None
    flow_shift: Annotated[float, Field(gt=0, le=100)] | None = None
    boundary_ratio: Annotated[float, Field(ge=0, le=1)] | None = None
    sampler: Solver | None = None
    camera: CameraBody | None = None
    input_reference: ImageReference | None = None
    return_tensors: bool = False
    deadline_s: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _one_length(self) -> "VideoCreate":
        if self.seconds is not None and self.num_frames is not None:
            raise ValueError("send either num_frames or seconds, not both")
        return self


class VideoErrorBody(BaseModel):
    """Why a video failed."""

    code: str
    message: str


class VideoBody(BaseModel):
    """OpenAI's Video object, then what this model adds.

    Args:
        size: Effective "WxH", which the image's aspect decides.
        seconds: Effective length.
        num_frames: Effective frames.
        stage: What the job does now.
        step: Steps of that stage that are finished.
        total_steps: Steps it has.
        stage_durations: Seconds of each finished stage.
        notes: What was changed of the request, such as frames capped by the camera path.
        due_at: When the clip should be done, if a deadline was asked for.
    """

    id: str
    object: Literal["video"] = "video"
    model: str
    status: Literal["queued", "in_progress", "completed", "failed"]
    progress: int
    created_at: int
    completed_at: int | None
    expires_at: int | None = None
    prompt: str
    size: str
    seconds: str
    remixed_from_video_id: str | None = None
    error: VideoErrorBody | None
    fps: int = FPS
    num_frames: int
    seed: int
    num_inference_steps: int
    stage: str | None
    step: int | None
    total_steps: int | None
    stage_durations: dict[str, float]
    notes: list[str]
    due_at: int | None

    @classmethod
    def of(cls, job: Job) -> "VideoBody":
        """A job as clients see it."""
        error = None
        if job.error_code is not None:
            error = VideoErrorBody(code=job.error_code, message=job.error_message or "")
        return cls.model_validate(
            {
                "id": job.id,
                "model": job.model,
                "status": job.status,
                "progress": job.progress,
                "created_at": int(job.created_at),
                "completed_at": None if job.completed_at is None else int(job.completed_at),
                "prompt": job.prompt,
                "size": f"{job.width}x{job.height}",
                "seconds": f"{(job.num_frames - 1) / FPS:g}",
                "error": error,
                "num_frames": job.num_frames,
                "seed": int(job.seed),
                "num_inference_steps": job.num_inference_steps,
                "stage": job.stage,
                "step": job.step,
                "total_steps": job.total_steps,
                "stage_durations": job.stage_durations,
                "notes": job.notes,
                "due_at": None if job.due_at_s is None else int(job.due_at_s),
            }
        )


class VideoList(BaseModel):
    """One page of videos, with OpenAI's cursors."""

    object: Literal["list"] = "list"
    data: list[VideoBody]
    first_id: str | None
    last_id: str | None
    has_more: bool


class VideoDeleted(BaseModel):
    """The answer to `DELETE /v1/videos/{id}`."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True
