"""Who may call the API, as settings."""

import ipaddress
from enum import Enum

from pydantic import Field

from deployments.settings import Settings


class AuthMode(str, Enum):
    """Whether calls need a key."""

    AUTO = "auto"
    REQUIRED = "required"
    OFF = "off"


class AuthSettings(Settings):
    """Who may call.

    Args:
        mode: `required`: every call carries a key. `off`: none needs one. `auto`: none needs one,
            and the service refuses to listen where another machine could reach it.
        cache_s: How long a gateway believes what it has read of a key; a revoked one works so
            long. 0 reads it for every request.
        max_cached_keys: Keys that a gateway remembers at a time, about 1 KiB each.
    """

    mode: AuthMode = AuthMode.AUTO
    cache_s: float = Field(default=5.0, ge=0, le=60)
    max_cached_keys: int = Field(default=4096, ge=1)

    @property
    def asks_for_keys(self) -> bool:
        """Whether calls need a key."""
        return self.mode is AuthMode.REQUIRED


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener at an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listener_problem(host: str, auth: AuthSettings) -> str | None:
    """Why a service must not listen at an address; None where it may.

    Args:
        host: The address.
        auth: Who may call.
    """
    if auth.mode is not AuthMode.AUTO or is_loopback(host):
        return None
    return (
        f"http.host: other machines can reach {host}, and no API key is asked for; set "
        "gateway.auth.mode (--auth) to required and make keys with `lingbot-serve keys create`, "
        "or to off if something in front of it lets only the right people through"
    )
