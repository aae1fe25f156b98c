"""What clients get: OpenAI's video object, then what this model adds."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from deployments.api.schema import Priority
from deployments.jobs.outlook import UNKNOWN, Outlook
from deployments.jobs.tables import FAILED, Job
from model.types import FPS

Status = Literal["queued", "in_progress", "completed", "failed"]
State = Literal["queued", "in_progress", "completed", "failed", "cancelled", "expired"]

# Ends that stock clients know only as a failure.
_STATES: dict[str | None, State] = {
    "cancelled": "cancelled",
    "expired": "expired",
    "deadline_exceeded": "expired",
}


class _Answer(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class VideoErrorBody(_Answer):
    """Why a video failed."""

    code: str
    """Stable; docs/errors.md lists them."""
    message: str
    """For people."""


class ArtifactBody(_Answer):
    """One stored file of a video."""

    sha256: str
    """Of its content, in hexadecimal."""
    bytes: int
    """Its size."""
    media_type: str
    """Such as video/mp4."""
    seconds: float | None = None
    """How long it plays; null of what does not."""


class VideoBody(_Answer):
    """OpenAI's Video object, then what this model adds."""

    id: str
    object: Literal["video"] = "video"
    model: str
    """Name of the model that is served."""
    status: Status
    """Of OpenAI's object; `state_detail` tells more."""
    progress: int
    """Percent; never falls."""
    created_at: int
    """Unix time, as every other `…_at`."""
    completed_at: int | None
    """When it ended, however it did."""
    expires_at: int | None
    """When its files are removed; null where they are kept."""
    prompt: str
    size: str
    """Effective "WxH", which the image's aspect decides."""
    seconds: str
    """Effective length."""
    remixed_from_video_id: str | None = None
    """Always null: this model remixes nothing."""
    error: VideoErrorBody | None
    """Why it failed; null unless it did."""
    state_detail: State
    """`status`, but with cancelled and expired videos apart from failed ones."""
    fps: int = FPS
    num_frames: int
    """Effective frames."""
    seed: int
    """Of the initial noise; the drawn one where none was sent."""
    num_inference_steps: int
    priority: Priority
    """Which class it waits in."""
    queue_position: int | None
    """1 is next; null unless it waits."""
    eta_seconds: float | None
    """Until it is done; null where nobody can say, or it is over."""
    stage: str | None
    """What the job does now."""
    step: int | None
    """Steps of that stage that are finished."""
    total_steps: int | None
    """Steps it has."""
    stage_durations: dict[str, float]
    """Seconds of each finished stage."""
    notes: list[str]
    """What was changed of the request, such as frames capped by the camera path."""
    due_at: int | None
    """When the clip should be done, if a deadline was asked for."""
    artifacts: dict[str, ArtifactBody]
    """What is stored, by the `variant` of `/content`."""
    record: dict[str, Any] | None
    """What it takes to make the same video again; null until it is completed."""

    @classmethod
    def of(cls, job: Job, outlook: Outlook = UNKNOWN) -> "VideoBody":
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
                "completed_at": _unix_time(job.completed_at),
                "expires_at": _unix_time(job.expires_at),
                "prompt": job.prompt,
                "size": f"{job.width}x{job.height}",
                "seconds": f"{(job.num_frames - 1) / FPS:g}",
                "error": error,
                "state_detail": state_of(job),
                "num_frames": job.num_frames,
                "seed": int(job.seed),
                "num_inference_steps": job.num_inference_steps,
                "priority": job.priority,
                "queue_position": outlook.queue_position,
                "eta_seconds": outlook.eta_seconds,
                "stage": job.stage,
                "step": job.step,
                "total_steps": job.total_steps,
                "stage_durations": job.stage_durations,
                "notes": job.notes,
                "due_at": _unix_time(job.due_at_s),
                "artifacts": job.artifacts,
                "record": job.record or None,
            }
        )


def state_of(job: Job) -> State:
    """The exact state of a job, of which stock clients know only four."""
    status: State = job.status  # type: ignore[assignment]
    return _STATES.get(job.error_code, status) if status == FAILED else status


def _unix_time(at_s: float | None) -> int | None:
    return None if at_s is None else int(at_s)


class VideoList(_Answer):
    """One page of videos, with OpenAI's cursors."""

    object: Literal["list"] = "list"
    data: list[VideoBody]
    first_id: str | None
    last_id: str | None
    """Send it as `after` for the next page."""
    has_more: bool


class VideoDeleted(_Answer):
    """The answer to `DELETE /v1/videos/{id}`."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True
