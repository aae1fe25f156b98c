"""Who sends a request; what the owner of a job may, nobody else may."""

from dataclasses import dataclass

from starlette.requests import Request

from deployments.errors import PermissionDeniedError
from deployments.keys.rights import PRIORITIES, UNLIMITED, Quotas, Scope


@dataclass(frozen=True, slots=True)
class Caller:
    """One client of the API.

    Args:
        key_id: Of its API key; empty where the server asks for none.
        scopes: What the key is for.
        quotas: How much of it.
    """

    key_id: str = ""
    scopes: frozenset[Scope] = frozenset({Scope.READ, Scope.WRITE})
    quotas: Quotas = UNLIMITED

    @property
    def sees(self) -> str | None:
        """Whose videos the caller may see: its key's; None means everybody's."""
        return None if Scope.ADMIN in self.scopes else self.key_id

    def check_scope(self, needed: Scope) -> None:
        """Raises unless the key is for this.

        Raises:
            PermissionDeniedError: It is not.
        """
        if self.scopes.isdisjoint({needed, Scope.ADMIN}):
            raise PermissionDeniedError(f"this API key lacks the scope {needed.value}")

    def check_priority(self, asked: str) -> None:
        """Raises if a job's priority is higher than the key allows.

        Raises:
            PermissionDeniedError: It is.
        """
        if PRIORITIES.index(asked) > PRIORITIES.index(self.quotas.max_priority):
            raise PermissionDeniedError(
                f"priority: this API key allows {self.quotas.max_priority} at most"
            )


ANYONE = Caller()


def caller_of(request: Request) -> Caller:
    """Who sent a request; everybody is the same where the server asks for no key."""
    caller = getattr(request.state, "caller", ANYONE)
    assert isinstance(caller, Caller)
    return caller
