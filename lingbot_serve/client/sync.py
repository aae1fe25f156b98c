"""The client that blocks."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import TracebackType

import httpx
from httpx_sse import EventSource
from rich.console import Console
from typing_extensions import Self, Unpack

from lingbot_serve.client.calls import Pages
from lingbot_serve.client.events import EventStream, JobEvent
from lingbot_serve.client.flows import Flow
from lingbot_serve.client.inputs import CameraInput, ImageInput, VideoOptions, video_form
from lingbot_serve.client.requests import Server
from lingbot_serve.client.retries import DEFAULT_RETRIES, RetryPolicy
from lingbot_serve.client.transport import Transport
from lingbot_serve.client.video import Order, Video, require_completed


class Client:
    """Talks to one server; use it as a context manager. Threads may share it.

    Args:
        base_url: Address of the gateway; left out: `LINGBOT_BASE_URL`, or port 8000 here.
        api_key: Left out: `LINGBOT_API_KEY`, or none.
        timeout_s: Longest silence of the server within one call.
        retries: How long to bear with the server.
        origin: Under what the server counts the jobs; it knows "client" and "canary".
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float = 60.0,
        retries: RetryPolicy = DEFAULT_RETRIES,
        origin: str = "client",
    ) -> None:
        server = Server.find(base_url, api_key, origin)
        self._transport = Transport(server, timeout_s, retries)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()

    def generate(
        self,
        *,
        image: ImageInput,
        prompt: str,
        camera: CameraInput | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[VideoOptions],
    ) -> "Job":
        """Asks for a video and returns its job, which waits in the server's queue.

        Args:
            image: First frame: a file, its bytes, or an image of Pillow.
            prompt: What to show.
            camera: Where the camera goes: arrays, such as those of `lingbot_serve.camera`, two
                `.npy` files, or the folder that holds them.
            idempotency_key: Names this wish: however often it is sent, there is one job. Left out:
                a new one for each call, which its retries share.
            **options: Other fields of `POST /v1/videos`.

        Raises:
            ApiError: The server refused it; `param` names the field.
            ServerUnreachableError: It did not answer.
        """
        form = video_form(image, prompt, camera, options)
        return self._job(self._transport.calls.create(form, idempotency_key))

    def make(
        self,
        path: Path,
        *,
        image: ImageInput,
        prompt: str,
        camera: CameraInput | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[VideoOptions],
    ) -> "Job":
        """Asks for a video, waits for it in the same call, and writes it to a file.

        For short clips: `timeout_s` of the client must be longer than the clip takes.

        Raises:
            ApiError: The server refused it, or the video failed.
            ServerUnreachableError: It did not answer.
        """
        form = video_form(image, prompt, camera, options)
        flow = self._transport.calls.make(form, idempotency_key, path)
        return self.job(self._transport.run(flow))

    def job(self, job_id: str) -> "Job":
        """The job of this id, as it stands.

        Raises:
            NotFoundError: There is none, or it is another key's.
        """
        return self._job(self._transport.calls.retrieve(job_id))

    def jobs(
        self, *, limit: int | None = None, after: str | None = None, order: Order = "desc"
    ) -> "Iterator[Job]":
        """Jobs in order of creation, page by page as they are taken.

        Args:
            limit: Most of them; None for all.
            after: Id of the job before the first one.
            order: "desc": the newest first.
        """
        pages = Pages(self._transport.calls, limit, after, order)
        while not pages.is_over:
            for video in self._transport.run(pages.turn()):
                yield Job(self._transport, video)

    def _job(self, flow: Flow[Video]) -> "Job":
        return Job(self._transport, self._transport.run(flow))


class Job:
    """One video that a server makes, has made, or could not make.

    Args:
        transport: To the server.
        video: It as it was last heard of; every method that asks brings it up to date.
    """

    def __init__(self, transport: Transport, video: Video) -> None:
        self._transport = transport
        self.video = video

    def __repr__(self) -> str:
        return f"<Job {self.id}: {self.video.state}>"

    @property
    def id(self) -> str:
        return self.video.id

    @property
    def status(self) -> str:
        """Status that it was last heard of with."""
        return self.video.status

    def refresh(self) -> Video:
        """Asks how it stands."""
        return self._update(self._transport.calls.retrieve(self.id))

    def events(self, *, last_event_id: str = "") -> Iterator[JobEvent]:
        """What happens to it, as it happens, until it is over; broken connections are made anew.

        Args:
            last_event_id: `id` of the last event that is known; left out: how it stands first.

        Raises:
            NotFoundError: It was deleted.
            ServerUnreachableError: The server is gone for good.
        """
        stream = EventStream(self._transport.calls, self.id, last_event_id)
        while not stream.is_over:
            with closing(self._transport.run(stream.connect())) as response:
                try:
                    for message in EventSource(response).iter_sse():
                        if (event := stream.take(message)) is not None:
                            self.video = event.video or self.video
                            yield event
                        if stream.is_over:
                            return
                except httpx.TransportError as error:
                    stream.broke(error)

    def wait(self, *, progress: bool | Console = False, timeout_s: float | None = None) -> Video:
        """Returns the video once it is completed.

        An exception that ends the wait, such as KeyboardInterrupt, leaves the job running.

        Args:
            progress: Whether to show stage, step and time left on stderr, or on which console.
            timeout_s: Longest wait; None waits for as long as it takes.

        Raises:
            VideoFailedError: It failed or was cancelled; `code` says which.
            WaitTimeoutError: It is not over in time; it goes on.
            ServerUnreachableError: The server is gone for good.
        """
        flow = self._transport.calls.wait(self.video, progress, timeout_s)
        return require_completed(self._update(flow))

    def save(self, path: Path | str, *, variant: str = "video") -> Path:
        """Writes a file of the completed video, whole or not at all, and checks its SHA-256.

        What arrived before a connection, or this process, broke is kept beside the file, and the
        next call goes on there.

        Args:
            path: Where to.
            variant: One of `video.artifacts`, such as "video" or "tensors".

        Raises:
            ConflictError: It is not completed.
            IntegrityError: What arrived is not what the server announced.
        """
        if not self.video.is_over:
            self.refresh()
        self._transport.run(self._transport.calls.save(self.video, variant, Path(path)))
        return Path(path)

    def cancel(self) -> Video:
        """Stops it at its next step; it then counts as failed with the code "cancelled"."""
        return self._update(self._transport.calls.cancel(self.id))

    def delete(self) -> None:
        """Stops it if need be, and removes it with its files."""
        self._transport.run(self._transport.calls.delete(self.id))

    def _update(self, flow: Flow[Video]) -> Video:
        self.video = self._transport.run(flow)
        return self.video
