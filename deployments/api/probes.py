"""What monitoring and Kubernetes ask."""

from dataclasses import asdict

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from deployments.api.service import VideoService


def add_routes(api: FastAPI, service: VideoService) -> None:
    """Adds the routes about the service itself."""

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
