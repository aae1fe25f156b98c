"""Webhooks, as settings."""

from pydantic import Field

from deployments.outbound import OutboundSettings
from deployments.settings import Settings


class WebhookSettings(Settings):
    """How the ends of jobs are told to those who asked for it.

    Args:
        outbound: Where they may be sent; public addresses by HTTPS unless it says more.
        max_endpoints: That one key may register.
        max_concurrent_per_endpoint: Attempts of one gateway at one endpoint at once: one that hangs
            leaves turns of `outbound.max_concurrent` to the others.
        retry_for_s: For how long an event is sent again that nobody took.
        first_retry_s: The wait after the first attempt; each further one is four times as long.
        max_retry_s: The longest wait between two attempts.
        keep_s: How long the log of what was sent is kept.
        poll_s: How often a gateway looks for events to send.
    """

    outbound: OutboundSettings = OutboundSettings()
    max_endpoints: int = Field(default=10, ge=0)
    max_concurrent_per_endpoint: int = Field(default=2, ge=1)
    retry_for_s: float = Field(default=24 * 3600.0, ge=0)
    first_retry_s: float = Field(default=5.0, gt=0)
    max_retry_s: float = Field(default=3600.0, gt=0)
    keep_s: float = Field(default=7 * 24 * 3600.0, gt=0)
    poll_s: float = Field(default=1.0, gt=0)
