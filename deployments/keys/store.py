"""Keys in the jobs' database: made, rotated, revoked, and found by their secret."""

import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from uuid import uuid4

from sqlalchemy import ColumnElement, Engine, delete, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session, sessionmaker

from deployments.api.identity import Caller
from deployments.keys.rights import UNLIMITED, Quotas, Scope
from deployments.keys.secret import Secret, new_secret
from deployments.keys.tables import ApiKey, ApiKeySecret
from model.errors import InvalidInputError

# Not with every request: a time to the minute tells whether a key is still in use.
_LAST_USED_STEP_S = 60.0


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One key and what may be shown of its secrets, newest first."""

    key: ApiKey
    secrets: tuple[ApiKeySecret, ...]


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key whose secret can be read this once."""

    record: KeyRecord
    secret: Secret


class KeyStore:
    """The keys of a service; every call is one short transaction and may run in a thread.

    Args:
        engine: From `deployments.jobs.database.open_database`.
    """

    def __init__(self, engine: Engine) -> None:
        self._session = sessionmaker(engine, expire_on_commit=False)

    def create(
        self,
        name: str,
        *,
        scopes: Iterable[Scope] = (Scope.READ, Scope.WRITE),
        quotas: Quotas = UNLIMITED,
        expires_at: float | None = None,
    ) -> NewKey:
        """Makes a key.

        Args:
            name: Whose it is, for people.
            scopes: What it is for.
            quotas: How much of it.
            expires_at: Unix time after which it is worth nothing; None means never.
        """
        key = ApiKey(
            id=f"key_{uuid4().hex[:16]}",
            name=name,
            scopes=sorted({scope.value for scope in scopes}),
            expires_at=expires_at,
            **asdict(quotas),
        )
        secret = new_secret()
        with self._session.begin() as session:
            session.add(key)
            session.flush()
            session.add(_row(secret, key))
        return NewKey(self.get(key.id), secret)

    def get(self, key_id: str) -> KeyRecord:
        """One key.

        Raises:
            InvalidInputError: There is none of this id.
        """
        with self._session() as session:
            return _record(session, _find(session, key_id))

    def all(self) -> list[KeyRecord]:
        """Every key, oldest first, those that are over too."""
        with self._session() as session:
            keys = session.scalars(select(ApiKey).order_by(ApiKey.created_at, ApiKey.id))
            return [_record(session, key) for key in keys]

    def revoke(self, key_id: str) -> KeyRecord:
        """Ends a key; gateways notice within `auth.cache_s`.

        Raises:
            InvalidInputError: There is none of this id.
        """
        with self._session.begin() as session:
            key = _find(session, key_id)
            if key.revoked_at is None:
                key.revoked_at = time.time()
        return self.get(key_id)

    def rotate(self, key_id: str, *, grace_s: float) -> NewKey:
        """Gives a key a new secret; the one before works on for a while, all others no more.

        Args:
            key_id: Which.
            grace_s: How long; 0 ends it at once.

        Raises:
            InvalidInputError: There is none of this id, or it is over.
        """
        secret, now_s = new_secret(), time.time()
        with self._session.begin() as session:
            key = _find(session, key_id)
            if not key.is_valid(now_s):
                raise InvalidInputError("id", f"{key_id} is over; create another key")
            newest, *older = _secrets(session, key_id)
            for row in older:
                session.delete(row)
            newest.expires_at = min(now_s + grace_s, newest.expires_at or float("inf"))
            session.add(_row(secret, key))
        return NewKey(self.get(key_id), secret)

    def drop_old_secrets(self, key_id: str) -> KeyRecord:
        """Ends every secret of a key but the newest.

        Raises:
            InvalidInputError: There is none of this id.
        """
        with self._session.begin() as session:
            _find(session, key_id)
            newest = _secrets(session, key_id)[0]
            older = delete(ApiKeySecret).where(ApiKeySecret.key_id == key_id)
            session.execute(older.where(ApiKeySecret.sha256 != newest.sha256))
        return self.get(key_id)

    def find(self, secret: Secret) -> Caller | None:
        """Whose secret this is; None if it is nobody's, or over."""
        query = (
            select(ApiKey)
            .join(ApiKeySecret, ApiKeySecret.key_id == ApiKey.id)
            .where(ApiKeySecret.sha256 == secret.sha256, _not_yet(ApiKeySecret.expires_at))
        )
        now_s = time.time()
        with self._session() as session:
            key = session.scalar(query)
        if key is None or not key.is_valid(now_s):
            return None
        if key.last_used_at is None or now_s - key.last_used_at > _LAST_USED_STEP_S:
            self._note_use(key.id, now_s)
        return _caller(key)

    def _note_use(self, key_id: str, now_s: float) -> None:
        with self._session.begin() as session:
            session.execute(update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=now_s))


def _caller(key: ApiKey) -> Caller:
    quotas = Quotas(
        requests_per_minute=key.requests_per_minute,
        max_unfinished_jobs=key.max_unfinished_jobs,
        gpu_seconds_per_day=key.gpu_seconds_per_day,
        max_priority=key.max_priority,
    )
    return Caller(key.id, frozenset(Scope(name) for name in key.scopes), quotas)


def _find(session: Session, key_id: str) -> ApiKey:
    key = session.get(ApiKey, key_id)
    if key is None:
        raise InvalidInputError("id", f"no key is called {key_id!r}; `lingbot-serve keys ls`")
    return key


def _secrets(session: Session, key_id: str) -> list[ApiKeySecret]:
    mine = select(ApiKeySecret).where(ApiKeySecret.key_id == key_id)
    return list(session.scalars(mine.order_by(ApiKeySecret.created_at.desc())))


def _record(session: Session, key: ApiKey) -> KeyRecord:
    return KeyRecord(key, tuple(_secrets(session, key.id)))


def _row(secret: Secret, key: ApiKey) -> ApiKeySecret:
    return ApiKeySecret(sha256=secret.sha256, key_id=key.id, prefix=secret.prefix)


def _not_yet(moment: InstrumentedAttribute[float | None]) -> ColumnElement[bool]:
    return or_(moment.is_(None), moment > time.time())
