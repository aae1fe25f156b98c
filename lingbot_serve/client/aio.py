"""The client of an event loop; `lingbot_serve.client.sync` describes what each method does."""

from collections.abc import AsyncIterator
from contextlib import aclosing
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
from lingbot_serve.client.transport import AsyncTransport
from lingbot_serve.client.video import Order, Video, require_completed


class AsyncClient:
    """As `Client`, with methods to await; use it as an asynchronous context manager."""

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
        self._transport = AsyncTransport(server, timeout_s, retries)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._transport.close()

    async def generate(
        self,
        *,
        image: ImageInput,
        prompt: str,
        camera: CameraInput | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[VideoOptions],
    ) -> "AsyncJob":
        """Asks for a video and returns its job, which waits in the server's queue."""
        form = video_form(image, prompt, camera, options)
        return await self._job(self._transport.calls.create(form, idempotency_key))

    async def make(
        self,
        path: Path,
        *,
        image: ImageInput,
        prompt: str,
        camera: CameraInput | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[VideoOptions],
    ) -> "AsyncJob":
        """Asks for a video, waits for it in the same call, and writes it to a file."""
        form = video_form(image, prompt, camera, options)
        flow = self._transport.calls.make(form, idempotency_key, path)
        return await self.job(await self._transport.run(flow))

    async def job(self, job_id: str) -> "AsyncJob":
        """The job of this id, as it stands."""
        return await self._job(self._transport.calls.retrieve(job_id))

    async def jobs(
        self, *, limit: int | None = None, after: str | None = None, order: Order = "desc"
    ) -> "AsyncIterator[AsyncJob]":
        """Jobs in order of creation, page by page as they are taken."""
        pages = Pages(self._transport.calls, limit, after, order)
        while not pages.is_over:
            for video in await self._transport.run(pages.turn()):
                yield AsyncJob(self._transport, video)

    async def _job(self, flow: Flow[Video]) -> "AsyncJob":
        return AsyncJob(self._transport, await self._transport.run(flow))


class AsyncJob:
    """As `Job`, with methods to await."""

    def __init__(self, transport: AsyncTransport, video: Video) -> None:
        self._transport = transport
        self.video = video

    def __repr__(self) -> str:
        return f"<AsyncJob {self.id}: {self.video.state}>"

    @property
    def id(self) -> str:
        return self.video.id

    @property
    def status(self) -> str:
        """Status that it was last heard of with."""
        return self.video.status

    async def refresh(self) -> Video:
        """Asks how it stands."""
        return await self._update(self._transport.calls.retrieve(self.id))

    async def events(self, *, last_event_id: str = "") -> AsyncIterator[JobEvent]:
        """What happens to it, as it happens, until it is over; broken connections are made anew."""
        stream = EventStream(self._transport.calls, self.id, last_event_id)
        while not stream.is_over:
            async with aclosing(await self._transport.run(stream.connect())) as response:
                try:
                    async for message in EventSource(response).aiter_sse():
                        if (event := stream.take(message)) is not None:
                            self.video = event.video or self.video
                            yield event
                        if stream.is_over:
                            return
                except httpx.TransportError as error:
                    stream.broke(error)

    async def wait(
        self, *, progress: bool | Console = False, timeout_s: float | None = None
    ) -> Video:
        """Returns the video once it is completed."""
        flow = self._transport.calls.wait(self.video, progress, timeout_s)
        return require_completed(await self._update(flow))

    async def save(self, path: Path | str, *, variant: str = "video") -> Path:
        """Writes a file of the completed video, whole or not at all, and checks its SHA-256."""
        if not self.video.is_over:
            await self.refresh()
        await self._transport.run(self._transport.calls.save(self.video, variant, Path(path)))
        return Path(path)

    async def cancel(self) -> Video:
        """Stops it at its next step; it then counts as failed with the code "cancelled"."""
        return await self._update(self._transport.calls.cancel(self.id))

    async def delete(self) -> None:
        """Stops it if need be, and removes it with its files."""
        await self._transport.run(self._transport.calls.delete(self.id))

    async def _update(self, flow: Flow[Video]) -> Video:
        self.video = await self._transport.run(flow)
        return self.video
