"""Each call of the API as a flow, from its arguments to its result."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console

from lingbot_serve.client.download import Download, download
from lingbot_serve.client.flows import Flow, Pause, call
from lingbot_serve.client.inputs import VideoForm
from lingbot_serve.client.replies import video_of
from lingbot_serve.client.requests import MAX_PAGE, Requests
from lingbot_serve.client.retries import RetryPolicy
from lingbot_serve.client.video import Order, Video, VideoPage
from lingbot_serve.errors import WaitTimeoutError
from lingbot_serve.progress import ProgressView, no_view, progress_view

_POLL_AFTER_HEADER = "openai-poll-after-ms"
_DEFAULT_POLL_S = 1.0
_POLL_BOUNDS_S = (0.1, 10.0)


@dataclass(frozen=True, slots=True)
class Deadline:
    """Until when to wait.

    Args:
        timeout_s: Seconds from the beginning; None waits for ever.
        began_s: On the clock of `time.monotonic`.
    """

    timeout_s: float | None
    began_s: float

    @classmethod
    def after(cls, timeout_s: float | None) -> "Deadline":
        """Counts from now."""
        return cls(timeout_s, time.monotonic())

    def pause(self, video: Video, seconds: float) -> Pause:
        """A pause that ends by then.

        Raises:
            WaitTimeoutError: It is then already.
        """
        if self.timeout_s is None:
            return Pause(seconds)
        left_s = self.began_s + self.timeout_s - time.monotonic()
        if left_s <= 0:
            stands = f"{video.state} at {video.stage}" if video.stage else video.state
            raise WaitTimeoutError(f"{video.id} is {stands} after {self.timeout_s:g} s; it goes on")
        return Pause(min(seconds, left_s))


class Calls:
    """Flows of one server.

    Args:
        build: `build_request` of the httpx client that will send the requests.
        retries: How long to bear with the server.
    """

    def __init__(self, build: Callable[..., httpx.Request], retries: RetryPolicy) -> None:
        self._requests = Requests(build)
        self.retries = retries

    def create(self, form: VideoForm, key: str | None) -> Flow[Video]:
        """Asks for a video."""
        return self._video(self._requests.create(form, key))

    def make(self, form: VideoForm, key: str | None, path: Path) -> Flow[str]:
        """Asks for a video that is the reply, writes it, and returns its id."""
        target = Download(path, None)
        # The same request again finds the same video, from its first byte.
        request = self._requests.create_and_wait(form, key)
        yield from download(target, lambda _: request, self.retries)
        return target.reply_headers["x-video-id"]

    def retrieve(self, video_id: str) -> Flow[Video]:
        """How a video stands."""
        return self._video(self._requests.retrieve(video_id))

    def cancel(self, video_id: str) -> Flow[Video]:
        """Stops a video."""
        return self._video(self._requests.cancel(video_id))

    def delete(self, video_id: str) -> Flow[httpx.Response]:
        """Removes a video."""
        return call(self._requests.delete(video_id), self.retries)

    def page(self, after: str | None, limit: int, order: Order) -> Flow[VideoPage]:
        """Some videos."""
        response = yield from call(self._requests.page(after, limit, order), self.retries)
        return VideoPage.model_validate_json(response.content)

    def events(self, video_id: str, last_event_id: str) -> Flow[httpx.Response]:
        """Events after the last one, as the body of a reply that is still to be read."""
        request = self._requests.events(video_id, last_event_id)
        return call(request, self.retries.patient, stream=True)

    def wait(self, video: Video, progress: bool | Console, timeout_s: float | None) -> Flow[Video]:
        """Asks at the server's pace until a video is over; an outage is borne with.

        Raises:
            WaitTimeoutError: It is not over in time.
        """
        deadline, pause_s = Deadline.after(timeout_s), 0.0
        with _view(progress) as view:
            while not video.is_over:
                view.show(video)
                yield deadline.pause(video, pause_s)
                response = yield from call(self._requests.retrieve(video.id), self.retries.patient)
                video, pause_s = video_of(response), poll_delay_s(response)
            view.show(video)
        return video

    def save(self, video: Video, variant: str, path: Path) -> Flow[None]:
        """Brings one of a video's files."""
        return download(
            Download(path, video.artifacts.get(variant)),
            lambda headers: self._requests.content(video.id, variant, headers),
            self.retries.patient,
        )

    def _video(self, request: httpx.Request) -> Flow[Video]:
        return video_of((yield from call(request, self.retries)))


class Pages:
    """Where somebody stands who reads the list of videos.

    Args:
        calls: To the server.
        limit: Most videos in all; None for every one.
        after: Id of the video before the first.
        order: "desc": the newest first.
    """

    def __init__(self, calls: Calls, limit: int | None, after: str | None, order: Order) -> None:
        self._calls = calls
        self._left = limit
        self._after = after
        self._order: Order = order
        self.is_over = limit == 0

    def turn(self) -> Flow[tuple[Video, ...]]:
        """The next page."""
        size = MAX_PAGE if self._left is None else min(self._left, MAX_PAGE)
        page = yield from self._calls.page(self._after, size, self._order)
        if self._left is not None:
            self._left -= len(page.data)
        self.is_over = not page.has_more or not page.data or self._left == 0
        self._after = page.data[-1].id if page.data else None
        return page.data


def poll_delay_s(response: httpx.Response) -> float:
    """When the server wants to be asked again, within reason."""
    wished = response.headers.get(_POLL_AFTER_HEADER, "")
    delay_s = int(wished) / 1000 if wished.isdecimal() else _DEFAULT_POLL_S
    low, high = _POLL_BOUNDS_S
    return min(max(delay_s, low), high)


def _view(progress: bool | Console) -> AbstractContextManager[ProgressView]:
    if progress is False:
        return no_view()
    return progress_view(Console(stderr=True, highlight=False) if progress is True else progress)
