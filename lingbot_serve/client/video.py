"""What the server says of a video."""

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from lingbot_serve.errors import VideoFailedError

Status = Literal["queued", "in_progress", "completed", "failed"]
Order = Literal["asc", "desc"]

CANCELLED = "cancelled"


class _Answer(BaseModel):
    # What newer servers add is kept, so that it can be shown.
    model_config = ConfigDict(frozen=True, extra="allow")


class VideoError(_Answer):
    """Why a video failed."""

    code: str
    message: str


class Artifact(_Answer):
    """One stored file of a video.

    Args:
        sha256: Of its content, in hexadecimal.
        bytes: Its size.
        media_type: Such as video/mp4.
    """

    sha256: str
    bytes: int
    media_type: str = ""


class Video(_Answer):
    """One video as the server describes it.

    Args:
        state_detail: `status`, but with cancelled and expired videos apart from failed ones.
        progress: Percent.
        queue_position: 1 is next; None unless it waits.
        eta_seconds: Until it is done; None where nobody can say.
        stage_durations: Seconds of each finished stage.
        notes: What was changed of the request.
        artifacts: Stored files, by the variant that `save` takes.
    """

    id: str
    status: Status
    state_detail: str = ""
    progress: int = 0
    created_at: int = 0
    prompt: str = ""
    size: str = ""
    seconds: str = ""
    seed: int | None = None
    num_frames: int | None = None
    stage: str | None = None
    step: int | None = None
    total_steps: int | None = None
    queue_position: int | None = None
    eta_seconds: float | None = None
    stage_durations: Mapping[str, float] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    artifacts: Mapping[str, Artifact] = Field(default_factory=dict)
    error: VideoError | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing about it will change any more."""
        return self.status in ("completed", "failed")

    @property
    def state(self) -> str:
        """The exact state, as far as the server tells it."""
        return self.state_detail or self.status


class VideoPage(_Answer):
    """Some videos, and whether more follow."""

    data: tuple[Video, ...]
    last_id: str | None = None
    has_more: bool = False


def require_completed(video: Video) -> Video:
    """Returns the video if it completed.

    Raises:
        VideoFailedError: It failed, was cancelled or has expired.
    """
    if video.status == "completed":
        return video
    error = video.error or VideoError(code="unknown", message=f"the video is {video.status}")
    raise VideoFailedError(error.code, error.message)
