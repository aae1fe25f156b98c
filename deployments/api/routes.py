"""The HTTP API; its bodies are in `deployments.api.schema` and `video_body`."""

from fastapi import Depends, FastAPI, Request
from structlog.contextvars import bind_contextvars

from deployments.api import content, errors, events, page, probes, videos, webhooks
from deployments.api.openapi import DESCRIPTION, VideoApi, refusals
from deployments.api.service import VideoService
from deployments.ids import request_id_of
from deployments.keys.rates import RateHeaders


def build_api(service: VideoService) -> FastAPI:
    """The HTTP application over a service."""
    api = VideoApi(
        title="lingbot-serve",
        description=DESCRIPTION,
        responses=refusals(),
        docs_url="/docs",
        redoc_url=None,
        dependencies=[Depends(_name_in_log), Depends(service.authentication)],
    )
    api.add_middleware(RateHeaders)
    errors.install(api)
    videos.add_routes(api, service)
    events.add_routes(api, service)
    content.add_routes(api, service)
    webhooks.add_routes(api, service.webhooks)
    probes.add_routes(api, service)
    page.add_routes(api)
    return api


async def _name_in_log(request: Request) -> None:
    """What is logged on behalf of a request carries its id."""
    bind_contextvars(request_id=request_id_of(request.headers))
