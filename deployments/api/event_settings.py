"""Settings of the event streams."""

from pydantic import Field

from deployments.settings import Settings


class EventSettings(Settings):
    """Bounds of `GET /v1/videos/{id}/events`.

    Args:
        max_streams: Streams that one gateway keeps open; each takes the place of one request.
        max_stream_s: How long one lasts at most; its client comes again where it left off. A
            gateway that stops waits this long for them.
    """

    max_streams: int = Field(default=256, ge=1)
    max_stream_s: float = Field(default=300.0, gt=0)
