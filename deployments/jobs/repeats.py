"""One job for one wish, however often it is sent and whichever gateway hears it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from weakref import WeakValueDictionary

from sqlalchemy import Engine, select
from sqlalchemy.orm import sessionmaker

from deployments.errors import IdempotencyMismatchError, RepeatedError
from deployments.jobs.tables import FAILED, Job


@dataclass(frozen=True, slots=True)
class Intent:
    """What tells one wish for a video from another.

    Args:
        key: The client's own name for it; None where it gave none.
        request_hash: Of everything that was sent. A seed that the server draws is no part of it.
        is_retry: Whether the client says that it has sent this before.
    """

    key: str | None
    request_hash: str
    is_retry: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """The job of a request, and whether an earlier one had made it."""

    job: Job
    is_replay: bool


class Repeats:
    """Finds the jobs of requests that are sent again.

    A key decides for good, by a unique index. Without a key only a request that is marked as a
    retry is held against the jobs of the last moments: sent twice on purpose it makes two.

    Args:
        engine: From `deployments.jobs.database.open_database`.
        window_s: How old the job of a retry without a key may be.
    """

    def __init__(self, engine: Engine, *, window_s: float) -> None:
        self._session = sessionmaker(engine, expire_on_commit=False)
        self._window_s = window_s
        self._locks: WeakValueDictionary[tuple[str, bool, str], asyncio.Lock] = (
            WeakValueDictionary()
        )

    async def once(
        self, key_id: str, intent: Intent, make: Callable[[], Awaitable[Job]]
    ) -> Accepted:
        """The job of a request: that of an earlier one of the same meaning, or a new one.

        Args:
            key_id: Of its owner.
            intent: The request.
            make: Makes and stores a job; may raise `RepeatedError`.

        Raises:
            IdempotencyMismatchError: The key stands for a request that asked for something else.
        """
        async with self._in_turn(key_id, intent):
            while (earlier := await self._find(key_id, intent)) is None:
                with suppress(RepeatedError):  # made at another gateway, at the same time
                    return Accepted(await make(), is_replay=False)
            return Accepted(earlier, is_replay=True)

    def _in_turn(self, key_id: str, intent: Intent) -> AbstractAsyncContextManager[None]:
        """Lets the requests of one key pass one after another here, so that a storm is cheap.

        Those without a key by what they ask for: a retry may come while the request before it is
        still being read, and has to find its job. At two gateways at once it does not.
        """
        name = (key_id, intent.key is None, intent.key or intent.request_hash)
        return self._locks.setdefault(name, asyncio.Lock())

    async def _find(self, key_id: str, intent: Intent) -> Job | None:
        if intent.key is None:
            recent = intent.is_retry and self._window_s > 0
            return await asyncio.to_thread(self._recent, key_id, intent) if recent else None
        job = await asyncio.to_thread(self._by_key, key_id, intent.key)
        if job is not None and job.request_hash != intent.request_hash:
            raise IdempotencyMismatchError(
                "this Idempotency-Key was sent with another request; use a new key for a new video"
            )
        return job

    def _by_key(self, key_id: str, idempotency_key: str) -> Job | None:
        same = select(Job).where(Job.key_id == key_id, Job.idempotency_key == idempotency_key)
        with self._session() as session:
            return session.scalar(same)

    def _recent(self, key_id: str, intent: Intent) -> Job | None:
        same = select(Job).where(
            Job.key_id == key_id,
            Job.request_hash == intent.request_hash,
            Job.created_at >= time.time() - self._window_s,
            Job.status != FAILED,
        )
        with self._session() as session:
            return session.scalar(same.order_by(Job.number.desc()).limit(1))
