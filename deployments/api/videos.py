"""Videos are made, looked up, listed and deleted."""

from typing import Annotated, Literal

from fastapi import FastAPI, Query, Request, Response
from structlog.contextvars import bind_contextvars

from cluster.metrics import count
from deployments.api.create_body import read_create_body
from deployments.api.errors import REFUSALS, refusal_code
from deployments.api.identity import caller_of
from deployments.api.intent import REPLAYED_HEADER, intent_of
from deployments.api.openapi import create_request, refusals, video_answer
from deployments.api.service import VideoService
from deployments.api.video_body import VideoBody, VideoDeleted, VideoList
from deployments.ids import new_job_ids
from deployments.jobs.metrics import CANARY, CLIENT
from deployments.jobs.outlook import UNKNOWN
from deployments.jobs.repeats import Accepted
from deployments.jobs.tables import Job
from monitoring.jobs import JOBS_REFUSED

# Set by the canary, so that its jobs are counted apart.
ORIGIN_HEADER = "x-lingbot-origin"
# A client that polls as told sees the end of its video late by a twentieth of its time at most.
_POLLS_PER_ETA = 20
_POLL_AFTER_MS = (500, 10_000)


def add_routes(api: FastAPI, service: VideoService) -> None:
    """Adds `/v1/videos` and what is below it, but for the files."""

    @api.post(
        "/v1/videos",
        operation_id="create_video",
        responses={
            200: video_answer(created=True),
            **refusals(400, 413, 415, 422, 429, 503),
        },
        openapi_extra=create_request(),
    )
    async def create(request: Request, response: Response) -> VideoBody:
        """Asks for a video, which is made later: poll it, or follow its events."""
        accepted = await create_job(request, service)
        if accepted.is_replay:
            response.headers[REPLAYED_HEADER] = "true"
        return await _body(accepted.job, response, service)

    @api.get("/v1/videos", operation_id="list_videos", responses=refusals(400, 404))
    async def page(
        request: Request,
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Literal["asc", "desc"] = "desc",
    ) -> VideoList:
        """Your videos in order of creation; `after` is the last one of the page before."""
        jobs, has_more = await service.page(
            caller_of(request), after=after, limit=limit, newest_first=order == "desc"
        )
        outlooks = await service.outlooks(*jobs)
        return VideoList(
            data=[VideoBody.of(job, outlooks.get(job.id, UNKNOWN)) for job in jobs],
            first_id=jobs[0].id if jobs else None,
            last_id=jobs[-1].id if jobs else None,
            has_more=has_more,
        )

    @api.get(
        "/v1/videos/{video_id}",
        operation_id="retrieve_video",
        responses={200: video_answer(), **refusals(404)},
    )
    async def get(video_id: str, request: Request, response: Response) -> VideoBody:
        """How far a video is."""
        return await _body(await service.get(video_id, caller_of(request)), response, service)

    @api.post(
        "/v1/videos/{video_id}/cancel",
        operation_id="cancel_video",
        responses={200: video_answer(), **refusals(404)},
    )
    async def cancel(video_id: str, request: Request, response: Response) -> VideoBody:
        """Stops a video after its step; one that is over is answered as it is."""
        return await _body(await service.cancel(video_id, caller_of(request)), response, service)

    @api.delete("/v1/videos/{video_id}", operation_id="delete_video", responses=refusals(404))
    async def delete(video_id: str, request: Request) -> VideoDeleted:
        """Stops a video if need be, and removes all of it."""
        await service.delete(video_id, caller_of(request))
        return VideoDeleted(id=video_id)


async def create_job(request: Request, service: VideoService) -> Accepted:
    """Reads a request for a video and queues its job, unless it has one; refusals are counted.

    Raises:
        GatewayError: It is refused as things stand.
        InvalidInputError: A field is wrong.
    """
    origin = CANARY if request.headers.get(ORIGIN_HEADER) == CANARY else CLIENT
    try:
        body = await read_create_body(request, service.config.limits)
        ids = new_job_ids(request.headers)
        bind_contextvars(job_id=ids.job_id)
        intent = intent_of(request.headers, body)
        return await service.create(body, ids, caller_of(request), intent, origin=origin)
    except REFUSALS as error:
        count(JOBS_REFUSED, code=refusal_code(error))
        raise


async def _body(job: Job, response: Response, service: VideoService) -> VideoBody:
    outlook = (await service.outlooks(job)).get(job.id, UNKNOWN)
    if not job.is_over:
        # The stock client's poll() obeys this header.
        response.headers["openai-poll-after-ms"] = str(poll_after_ms(outlook.eta_seconds))
    return VideoBody.of(job, outlook)


def poll_after_ms(eta_s: float | None) -> int:
    """When to ask again for a video: the later, the longer it will take.

    Args:
        eta_s: Until it is done; None where nobody can say.
    """
    shortest_ms, longest_ms = _POLL_AFTER_MS
    wanted_ms = 0 if eta_s is None else round(1000 * eta_s / _POLLS_PER_ETA)
    return min(max(wanted_ms, shortest_ms), longest_ms)
