"""Who sends a request; what the owner of a job may, nobody else may."""

from dataclasses import dataclass

from starlette.requests import Request


@dataclass(frozen=True, slots=True)
class Caller:
    """One client of the API.

    Args:
        key_id: Of its API key; empty where the server asks for none.
    """

    key_id: str = ""


ANYONE = Caller()


def caller_of(request: Request) -> Caller:
    """Who sent a request; everybody is the same where the server asks for no key."""
    caller = getattr(request.state, "caller", ANYONE)
    assert isinstance(caller, Caller)
    return caller
