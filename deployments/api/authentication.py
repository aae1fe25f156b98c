"""The door: who sends a request, whether their key is for it, and whether they ask too often."""

import asyncio

from cachetools import TTLCache
from starlette.requests import Request
from structlog.contextvars import bind_contextvars

from deployments.api.identity import ANYONE, Caller
from deployments.errors import UnauthenticatedError
from deployments.keys.rates import RequestRates
from deployments.keys.rights import Scope
from deployments.keys.secret import Secret, read_secret
from deployments.keys.settings import AuthSettings
from deployments.keys.store import KeyStore

# Whoever watches the service has no key, and learns nothing about anybody's videos.
OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/metrics"})
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_REMEDY = "send the header `Authorization: Bearer KEY`"


class Authentication:
    """A dependency of every route: reading needs `videos:read`, all else `videos:write`.

    A route that is added is closed without further ado.

    Args:
        keys: The keys of the service.
        settings: Whether keys are asked for, and how long they are remembered.
    """

    def __init__(self, keys: KeyStore, settings: AuthSettings) -> None:
        self._keys = keys
        self._asks_for_keys = settings.asks_for_keys
        self._rates = RequestRates()
        size, age_s = settings.max_cached_keys, settings.cache_s
        self._known: TTLCache[str, Caller] = TTLCache(size, age_s)
        # Apart, so that guesses push nobody's key out.
        self._unknown: TTLCache[str, None] = TTLCache(size, age_s)

    async def __call__(self, request: Request) -> None:
        """Leaves the caller in `request.state`.

        Raises:
            UnauthenticatedError: There is no key, or it is worth nothing.
            PermissionDeniedError: The key is not for this.
            QuotaExceededError: The key sends requests too often.
        """
        # The route's own path: the application may stand under a prefix.
        if not self._asks_for_keys or request.scope["route"].path in OPEN_PATHS:
            request.state.caller = ANYONE
            return
        caller = await self._caller(request.headers.get("authorization"))
        request.state.caller = caller
        bind_contextvars(key_id=caller.key_id)
        await self._rates.take(
            request.scope["state"], caller.key_id, caller.quotas.requests_per_minute
        )
        caller.check_scope(Scope.READ if request.method in _READS else Scope.WRITE)

    async def _caller(self, header: str | None) -> Caller:
        secret = _bearer(header)
        digest = secret.sha256
        caller = self._known.get(digest)
        if caller is None and digest not in self._unknown:
            caller = await asyncio.to_thread(self._keys.find, secret)
            if caller is None:
                self._unknown[digest] = None
            else:
                self._known[digest] = caller
        if caller is None:
            raise UnauthenticatedError("this API key is unknown, expired or revoked")
        return caller


def _bearer(header: str | None) -> Secret:
    if header is None:
        raise UnauthenticatedError(f"an API key is required; {_REMEDY}")
    kind, _, text = header.partition(" ")
    secret = read_secret(text.strip()) if kind.lower() == "bearer" else None
    if secret is None:
        raise UnauthenticatedError(f"this is no API key; {_REMEDY}")
    return secret
