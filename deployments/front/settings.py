"""The front, as settings."""

from enum import Enum

from pydantic import Field

from deployments.keys.settings import is_loopback
from deployments.settings import Settings


class FrontMode(str, Enum):
    """Whether HAProxy stands before Serve's HTTP server."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class FrontSettings(Settings):
    """What `lingbot-serve serve` puts before Serve's HTTP server; a cluster has its Ingress for it.

    Args:
        mode: `auto`: where other machines can reach the service. `off` where something else bounds
            what clients may do to it.
        head_timeout_s: A request's head has to be there by then.
        client_timeout_s: Longest time in which a client neither sends of its body nor takes of its
            answer.
        max_connections: At once, of all clients.
        max_connections_per_client: At once, of one address.
    """

    mode: FrontMode = FrontMode.AUTO
    head_timeout_s: float = Field(default=10.0, gt=0)
    client_timeout_s: float = Field(default=30.0, gt=0)
    max_connections: int = Field(default=4096, ge=1)
    max_connections_per_client: int = Field(default=512, ge=1)

    def stands_before(self, host: str) -> bool:
        """Whether a service that listens at an address has a front."""
        return self.mode is FrontMode.ON or (self.mode is FrontMode.AUTO and not is_loopback(host))
