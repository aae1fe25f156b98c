"""What monitoring and Kubernetes ask."""

from dataclasses import asdict
from typing import Literal

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel

from deployments.api.service import VideoService
from deployments.jobs.insist import DATABASE_AWAY


class NotReady(BaseModel):
    """Why no video can be made now."""

    status: Literal["not_ready"]
    reasons: list[str]


def add_routes(api: FastAPI, service: VideoService) -> None:
    """Adds the routes about the service itself."""

    @api.get("/healthz", operation_id="healthz")
    async def healthz() -> dict[str, str]:
        """Whether the gateway answers."""
        return {"status": "ok"}

    @api.get(
        "/metrics",
        operation_id="metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:
        """What Prometheus scrapes."""
        return Response(await service.metrics(), media_type=CONTENT_TYPE_LATEST)

    @api.get("/readyz", operation_id="readyz", responses={503: {"model": NotReady}})
    async def readyz() -> JSONResponse:
        """Whether a video can be made now, and if not, why."""
        reasons, jobs = await service.not_ready(), {}
        try:
            jobs = await service.count()
        except DATABASE_AWAY:
            reasons.append("the database of jobs does not answer")
        if reasons:
            return JSONResponse({"status": "not_ready", "reasons": reasons}, 503)
        facts = await service.denoiser_facts()
        denoiser = None if facts is None else asdict(facts)
        return JSONResponse({"status": "ready", "jobs": jobs, "denoiser": denoiser})
