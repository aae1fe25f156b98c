"""The ingress: an application of its own, so that redeploying it never restarts a gang."""

from fastapi import FastAPI

from deployments.config import GatewayConfig
from deployments.routes import build_api
from deployments.service import VideoService


class Gateway:
    """One replica that speaks HTTP and owns the jobs.

    Args:
        config: Limits, defaults and places.
    """

    # Serve awaits it; the type checker knows no such constructor.
    async def __init__(self, config: GatewayConfig) -> None:  # type: ignore[misc]
        self._service = VideoService(config)
        await self._service.start()

    def __serve_build_asgi_app__(self) -> FastAPI:
        return build_api(self._service)

    async def drain(self, timeout_s: float) -> None:
        """Takes no more jobs and waits for the running ones."""
        await self._service.drain(timeout_s)
