"""The HTTP API; see `deployments.schema` for the bodies."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from structlog.contextvars import bind_contextvars

from cluster.metrics import count
from deployments import http_errors
from deployments.create_body import read_create_body
from deployments.errors import GatewayError
from deployments.ids import new_job_ids, request_id_of
from deployments.job_metrics import CANARY, CLIENT
from deployments.jobs import Job
from deployments.schema import VideoBody, VideoDeleted, VideoList
from deployments.service import TENSORS, VIDEO, VideoService
from model.errors import InvalidInputError
from monitoring.jobs import JOBS_REFUSED

# Set by the canary, so that its jobs are counted apart.
ORIGIN_HEADER = "x-lingbot-origin"
_POLL_AFTER_MS = 500
_MEDIA_TYPES = {VIDEO: "video/mp4", TENSORS: "application/octet-stream"}


class _File(FileResponse):
    chunk_size = 2**20  # each chunk is one message from the replica to the proxy


def build_api(service: VideoService) -> FastAPI:
    """The HTTP application over a service."""
    api = FastAPI(
        title="lingbot-serve",
        docs_url="/docs",
        redoc_url=None,
        dependencies=[Depends(_name_in_log)],
    )
    http_errors.install(api)
    _add_videos(api, service)
    _add_content(api, service)
    _add_probes(api, service)
    return api


def _add_videos(api: FastAPI, service: VideoService) -> None:
    @api.post("/v1/videos")
    async def create(request: Request, response: Response) -> VideoBody:
        return _body(await _create(request, service), response)

    @api.get("/v1/videos")
    async def page(
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Literal["asc", "desc"] = "desc",
    ) -> VideoList:
        newest_first = order == "desc"
        jobs, has_more = await service.page(after=after, limit=limit, newest_first=newest_first)
        return VideoList(
            data=[VideoBody.of(job) for job in jobs],
            first_id=jobs[0].id if jobs else None,
            last_id=jobs[-1].id if jobs else None,
            has_more=has_more,
        )

    @api.get("/v1/videos/{video_id}")
    async def get(video_id: str, response: Response) -> VideoBody:
        return _body(await service.get(video_id), response)

    @api.delete("/v1/videos/{video_id}")
    async def delete(video_id: str) -> VideoDeleted:
        await service.delete(video_id)
        return VideoDeleted(id=video_id)


def _add_content(api: FastAPI, service: VideoService) -> None:
    @api.get("/v1/videos/{video_id}/content")
    async def content(video_id: str, variant: str = VIDEO) -> FileResponse:
        path = await service.content(video_id, variant)
        return _file(video_id, path, _MEDIA_TYPES[variant])

    @api.post("/v1/videos/sync")
    async def create_and_wait(request: Request) -> FileResponse:
        job = await _create(request, service)
        path = await service.wait(job.id)
        return _file(job.id, path, _MEDIA_TYPES[VIDEO])


def _add_probes(api: FastAPI, service: VideoService) -> None:
    @api.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @api.get("/metrics")
    async def metrics() -> Response:
        return Response(await service.metrics(), media_type=CONTENT_TYPE_LATEST)

    @api.get("/readyz")
    async def readyz() -> JSONResponse:
        reasons = await service.not_ready()
        if reasons:
            return JSONResponse({"status": "not_ready", "reasons": reasons}, 503)
        facts = await service.denoiser_facts()
        denoiser = None if facts is None else asdict(facts)
        jobs = await service.count()
        return JSONResponse({"status": "ready", "jobs": jobs, "denoiser": denoiser})


async def _create(request: Request, service: VideoService) -> Job:
    origin = CANARY if request.headers.get(ORIGIN_HEADER) == CANARY else CLIENT
    try:
        body = await read_create_body(request, max_bytes=service.config.limits.max_body_bytes)
        ids = new_job_ids(request.headers)
        bind_contextvars(job_id=ids.job_id)
        return await service.create(body, ids, origin=origin)
    except (GatewayError, InvalidInputError) as error:
        count(JOBS_REFUSED, code=http_errors.refusal_code(error))
        raise


async def _name_in_log(request: Request) -> None:
    """What is logged on behalf of a request carries its id."""
    bind_contextvars(request_id=request_id_of(request.headers))


def _body(job: Job, response: Response) -> VideoBody:
    if not job.is_over:
        # The stock client's poll() obeys this header.
        response.headers["openai-poll-after-ms"] = str(_POLL_AFTER_MS)
    return VideoBody.of(job)


def _file(video_id: str, path: Path, media_type: str) -> FileResponse:
    headers = {"x-video-id": video_id, "cache-control": "private, immutable"}
    return _File(path, media_type=media_type, filename=f"{video_id}{path.suffix}", headers=headers)
