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
from deployments.api.openapi import create_request, file_answer, refusals
from deployments.api.service import VideoService
from deployments.api.videos import create_job
from deployments.artifacts.files import VIDEO


def add_routes(api: FastAPI, service: VideoService) -> None:
    """Adds the routes that answer with a file."""

    @api.get(
        "/v1/videos/{video_id}/content",
        response_class=Response,
        operation_id="download_video",
        responses={
            200: file_answer("video/mp4", "image/webp", "image/png", "application/octet-stream"),
            206: file_answer("video/mp4", "application/octet-stream", "multipart/byteranges"),
            304: {"description": "`If-None-Match` names its ETag."},
            307: {"description": "The file lies in an object store."},
            **refusals(400, 404, 409, 410, 416, 503),
        },
    )
    async def content(video_id: str, request: Request, variant: str = VIDEO) -> Response:
        """A file of a completed video; `artifacts` of the video lists its variants."""
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

    @api.post(
        "/v1/videos/sync",
        response_class=Response,
        operation_id="create_video_and_wait",
        responses={
            200: file_answer("video/mp4"),
            **refusals(400, 413, 415, 422, 429, 500, 503),
        },
        openapi_extra=create_request(),
    )
    async def create_and_wait(request: Request) -> Response:
        """Asks for a video and waits for it. Who leaves cancels it, unless a key names it."""
        job = (await create_job(request, service)).job
        # Who names a request means to come back for it.
        keep = job.idempotency_key is not None
        file = await service.wait(job.id, caller_of(request), keep=keep)
        # Ranges and conditions are for a file that a client has seen before.
        return await answer(Download(job.id, file), service.objects, Headers())

    async def _download(video_id: str, variant: str, request: Request) -> Download:
        file, expires_at = await service.content(video_id, variant, caller_of(request))
        return Download(video_id, file, expires_at)
