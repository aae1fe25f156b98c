"""The ingress: an application of its own, so that redeploying it never restarts a gang."""

from fastapi import FastAPI

from cluster.logs import get_logger
from deployments.api.routes import build_api
from deployments.api.service import VideoService
from deployments.gateway_config import GatewayConfig
from deployments.logs import configure_replica_logging
from deployments.names import GATEWAY
from deployments.startup import announce
from deployments.trimming import Trimming

logger = get_logger(__name__)


class Gateway:
    """A replica that speaks HTTP and drives the jobs that it has claimed.

    Args:
        config: Limits, defaults and places.
    """

    # Serve awaits it; the type checker knows no such constructor.
    async def __init__(self, config: GatewayConfig) -> None:  # type: ignore[misc]
        configure_replica_logging(config.logging, GATEWAY)
        self._drain_timeout_s = config.drain_timeout_s
        announce(GATEWAY)
        logger.info("auth_configured", mode=config.auth.mode.value)
        self._service = VideoService(config)
        self._service.start()
        self._trimming = Trimming()
        self._trimming.loop.start()

    def __serve_build_asgi_app__(self) -> FastAPI:
        return build_api(self._service)

    def check_health(self) -> None:
        """Raises when this replica answers, but makes no more videos, and has to be replaced."""
        self._service.check_health()
        self._trimming.loop.check()

    async def drain(self, timeout_s: float) -> None:
        """Takes no more jobs and waits for the running ones.

        Args:
            timeout_s: Jobs that run longer go back into the queue.
        """
        await self._service.drain(timeout_s)

    async def __del__(self) -> None:
        # Serve awaits this before it ends a replica that it replaces or no longer needs.
        await self._service.drain(self._drain_timeout_s)
        await self._trimming.loop.stop()
        self._service.close()
