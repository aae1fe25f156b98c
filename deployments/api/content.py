"""The files of finished videos."""

from fastapi import FastAPI, Request, Response
from starlette.datastructures import Headers

from deployments.api.file_response import (
    Download,
    answer,
    answer_head,
    answer_without_content,
    redirect,
)
from deployments.api.identity import caller_of
from deployments.api.service import VideoService
from deployments.api.videos import create_job
from deployments.artifacts.files import VIDEO


def add_routes(api: FastAPI, service: VideoService) -> None:
    """Adds the routes that answer with a file."""

    @api.get("/v1/videos/{video_id}/content", response_class=Response)
    async def content(video_id: str, request: Request, variant: str = VIDEO) -> Response:
        download = await _download(video_id, variant, request)
        if unchanged := answer_without_content(download, request.headers):
            return unchanged
        settings = service.config.artifacts
        if settings.serve == "redirect":
            return await redirect(download, service.objects, settings.presign_expiry_s)
        return await answer(download, service.objects, request.headers)

    @api.head("/v1/videos/{video_id}/content", include_in_schema=False)
    async def content_head(video_id: str, request: Request, variant: str = VIDEO) -> Response:
        download = await _download(video_id, variant, request)
        return answer_without_content(download, request.headers) or answer_head(download)

    @api.post("/v1/videos/sync", response_class=Response)
    async def create_and_wait(request: Request) -> Response:
        job = (await create_job(request, service)).job
        # Who names a request means to come back for it.
        keep = job.idempotency_key is not None
        file = await service.wait(job.id, caller_of(request), keep=keep)
        # Ranges and conditions are for a file that a client has seen before.
        return await answer(Download(job.id, file), service.objects, Headers())

    async def _download(video_id: str, variant: str, request: Request) -> Download:
        file, expires_at = await service.content(video_id, variant, caller_of(request))
        return Download(video_id, file, expires_at)
