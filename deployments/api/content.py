"""The files of finished videos."""

from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse

from deployments.api.identity import caller_of
from deployments.api.service import TENSORS, VIDEO, VideoService
from deployments.api.videos import create_job

_MEDIA_TYPES = {VIDEO: "video/mp4", TENSORS: "application/octet-stream"}


class _File(FileResponse):
    chunk_size = 2**20  # each chunk is one message from the replica to the proxy


def add_routes(api: FastAPI, service: VideoService) -> None:
    """Adds the routes that answer with a file."""

    @api.get("/v1/videos/{video_id}/content")
    async def content(video_id: str, request: Request, variant: str = VIDEO) -> FileResponse:
        path = await service.content(video_id, variant, caller_of(request))
        return _file(video_id, path, _MEDIA_TYPES[variant])

    @api.post("/v1/videos/sync")
    async def create_and_wait(request: Request) -> FileResponse:
        job = (await create_job(request, service)).job
        # Who names a request means to come back for it.
        keep = job.idempotency_key is not None
        path = await service.wait(job.id, caller_of(request), keep=keep)
        return _file(job.id, path, _MEDIA_TYPES[VIDEO])


def _file(video_id: str, path: Path, media_type: str) -> FileResponse:
    headers = {"x-video-id": video_id, "cache-control": "private, immutable"}
    return _File(path, media_type=media_type, filename=f"{video_id}{path.suffix}", headers=headers)
