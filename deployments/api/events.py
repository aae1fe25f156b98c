"""A video's progress as server-sent events, read off its row: any gateway can go on with them."""

import re
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from deployments.api.identity import caller_of
from deployments.api.openapi import refusals
from deployments.api.service import VideoService
from deployments.api.video_body import VideoBody, VideoDeleted
from deployments.jobs.tables import QUEUED, Job
from deployments.jobs.watch import Sighting

# How soon a client comes back after a stream has ended.
_RETRY_MS = 1000
# An estimate is sent again when it has moved by this much, or by a tenth.
_ETA_MOVE_S = 5.0
_ID = re.compile(r"(\d{1,9})-([a-z_]{1,40})(?:-(\d{1,9}))?")


@dataclass(frozen=True, slots=True)
class Mark:
    """A point in a job's life, which is the id of its event.

    Args:
        attempt: Counts how often the job was begun.
        phase: "queued", a stage, or how it ended.
        number: Place in the queue, or finished steps of the stage.
    """

    attempt: int
    phase: str
    number: int | None = None

    def __str__(self) -> str:
        end = "" if self.number is None else f"-{self.number}"
        return f"{self.attempt}-{self.phase}{end}"

    @classmethod
    def parse(cls, text: str | None) -> "Mark | None":
        """The mark that an event's id spells; None for what is no id of ours."""
        match = _ID.fullmatch(text or "")
        if match is None:
            return None
        attempt, phase, number = match.groups()
        return cls(int(attempt), phase, None if number is None else int(number))


def mark_of(job: Job, queue_position: int | None) -> Mark:
    """Where a job stands."""
    if job.is_over:
        return Mark(job.attempts, job.status)
    if job.status == QUEUED:
        return Mark(job.attempts, job.status, queue_position)
    return Mark(job.attempts, job.stage or job.status, job.step)


def events_since(told: Mark | None, sighting: Sighting) -> list[ServerSentEvent]:
    """What a client that knows of a mark has yet to hear; the steps between are passed over."""
    job, outlook = sighting.job, sighting.outlook
    if job is None:
        return []
    now = mark_of(job, outlook.queue_position)
    if now == told:
        return []
    if job.is_over:
        return [_event(job.status, VideoBody.of(job, outlook), now)]
    eta = {"eta_seconds": outlook.eta_seconds}
    if job.status == QUEUED:
        return [_event("queued", {"queue_position": outlook.queue_position, **eta}, now)]
    if job.stage is None:
        return []
    stage = {"stage": job.stage}
    events = []
    if told is None or (told.attempt, told.phase) != (now.attempt, now.phase):
        events = [_event("stage", stage, replace(now, number=None))]
    if job.step is not None:
        steps = {"step": job.step, "total_steps": job.total_steps, "progress": job.progress}
        events.append(_event("step", {**stage, **steps, **eta}, now))
    return events


async def follow(
    job_id: str,
    sightings: AsyncGenerator[Sighting, None],
    told: Mark | None,
    *,
    max_s: float,
) -> AsyncIterator[ServerSentEvent]:
    """The events of one job until it is over, it is deleted or the time is up.

    Args:
        job_id: Which.
        sightings: Of the job; closed at the end.
        told: Up to where the client knows.
        max_s: How long it may last.
    """
    yield ServerSentEvent(retry=_RETRY_MS)
    ends_s, eta_s = time.monotonic() + max_s, None
    async with aclosing(sightings):
        async for sighting in sightings:
            job, outlook = sighting.job, sighting.outlook
            if job is None:
                yield ServerSentEvent(event="deleted", data=VideoDeleted(id=job_id), id="deleted")
                return
            again = job.status == QUEUED and _moved(eta_s, outlook.eta_seconds)
            events = events_since(None if again else told, sighting)
            for event in events:
                yield event
            if events:
                told, eta_s = mark_of(job, outlook.queue_position), outlook.eta_seconds
            if job.is_over or time.monotonic() >= ends_s:
                return


def _moved(told_s: float | None, eta_s: float | None) -> bool:
    if told_s is None or eta_s is None:
        return False
    return abs(eta_s - told_s) >= max(_ETA_MOVE_S, told_s / 10)


def _event(name: str, data: Any, mark: Mark) -> ServerSentEvent:
    return ServerSentEvent(event=name, data=data, id=str(mark))


def add_routes(api: FastAPI, service: VideoService) -> None:
    """Adds the stream of a video's events."""

    async def start(
        video_id: str, request: Request, last_event_id: Annotated[str | None, Header()] = None
    ) -> Mark | None:
        # Here and not in the stream, which has its status already.
        job = await service.get(video_id, caller_of(request))
        told = Mark.parse(last_event_id)
        if job.is_over and told == mark_of(job, None):
            raise HTTPException(204)  # what tells a browser not to come again
        service.watch.check_room()
        return told

    @api.get(
        "/v1/videos/{video_id}/events",
        response_class=EventSourceResponse,
        operation_id="video_events",
        responses={204: {"description": "Its end was told already."}, **refusals(404, 429)},
    )
    async def events(
        video_id: str, told: Annotated[Mark | None, Depends(start)]
    ) -> AsyncIterator[ServerSentEvent]:
        """A video's progress: `queued`, `stage`, `step`, and at last `completed` or `failed`, whose
        data is the video, or `deleted`. `Last-Event-ID` goes on where another stream ended, which
        it does after some minutes.
        """
        sightings = service.watch.sightings(video_id)
        max_s = service.config.events.max_stream_s
        async for event in follow(video_id, sightings, told, max_s=max_s):
            yield event
