"""A job's events over as many connections as it takes."""

import random
from typing import Literal, get_args

import httpx
from httpx_sse import ServerSentEvent, SSEError
from pydantic import BaseModel, ConfigDict

from lingbot_serve.client.calls import Calls
from lingbot_serve.client.flows import Flow, Pause
from lingbot_serve.client.replies import unreachable
from lingbot_serve.client.video import Video
from lingbot_serve.errors import ApiError, NotFoundError

EventKind = Literal["queued", "stage", "step", "completed", "failed"]
_DELETED = "deleted"
_ENDS: tuple[EventKind, ...] = ("completed", "failed")
# The server ends a stream after minutes so that it can stop, and says when to come back.
_DEFAULT_RETRY_MS = 500


class JobEvent(BaseModel):
    """One thing that happened to a job.

    Args:
        event: What: "queued", "stage", "step", "completed" or "failed".
        id: Give it to `events(last_event_id=…)` to go on after this one.
        queue_position: Of "queued": 1 is next.
        eta_seconds: Of "queued" and "step": until the video is done, where somebody can say.
        stage: Of "stage" and "step".
        step: Steps of that stage that are finished.
        total_steps: Steps it has.
        progress: Percent of the whole job.
        video: Of "completed" and "failed".
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    event: EventKind
    id: str
    queue_position: int | None = None
    eta_seconds: float | None = None
    stage: str | None = None
    step: int | None = None
    total_steps: int | None = None
    progress: int | None = None
    video: Video | None = None


class EventStream:
    """Where a reader of events stands, from connection to connection.

    Args:
        calls: To the server.
        video_id: Whose events.
        last_event_id: The last one that is known; empty begins with how the job stands.
    """

    def __init__(self, calls: Calls, video_id: str, last_event_id: str) -> None:
        self._calls = calls
        self._retries = calls.retries.patient
        self._video_id = video_id
        self._last_event_id = last_event_id
        self._connections = 0
        self._retry_ms = _DEFAULT_RETRY_MS
        self._barren = 0  # connections in a row that brought nothing
        self._broken = 0  # of them, those that did not end by themselves
        self.is_over = False

    def connect(self) -> Flow[httpx.Response]:
        """A reply whose body is the events that follow; the caller closes it.

        Raises:
            ApiError: The server refused.
            ServerUnreachableError: It does not answer, or its connections bring nothing.
        """
        if self._barren:
            yield Pause(self._retries.backoff_s(self._barren, jitter=random.random()))
        elif self._connections:
            yield Pause(self._retry_ms / 1000 * (1 + random.random()) / 2)
        self._connections += 1
        self._barren += 1
        response = yield from self._calls.events(self._video_id, self._last_event_id)
        # The last event that is known was the last there is.
        self.is_over = response.status_code == httpx.codes.NO_CONTENT
        return response

    def take(self, message: ServerSentEvent) -> JobEvent | None:
        """The event that a message holds; None of one that newer servers may send.

        Raises:
            NotFoundError: The video was deleted.
        """
        self._retry_ms = self._retry_ms if message.retry is None else message.retry
        if not message.event:
            return None
        self._barren = self._broken = 0
        self._last_event_id = message.id or self._last_event_id
        if message.event == _DELETED:
            raise NotFoundError(404, f"video {self._video_id} was deleted", code="video_not_found")
        if message.event not in get_args(EventKind):
            return None
        event = _event(message)
        self.is_over = event.event in _ENDS
        return event

    def broke(self, error: httpx.TransportError) -> None:
        """A connection ended early; there will be another one.

        Raises:
            ServerUnreachableError: Too many in a row brought nothing.
            ApiError: What answers sends no events.
        """
        if self.is_over:
            return
        if isinstance(error, SSEError):
            raise ApiError(200, f"no events of {self._video_id}: {error}")
        self._broken += 1
        if self._broken > self._retries.max_retries:
            raise unreachable(error) from error


def _event(message: ServerSentEvent) -> JobEvent:
    data = message.json()
    fields = {"video": data} if message.event in _ENDS else data
    return JobEvent.model_validate({**fields, "event": message.event, "id": message.id})
