"""Calls that are repeated until what they call answers: the database, the artifact store.

Not tenacity: the wait before a job's next attempt lies in its row, where it outlives a process, and
comes from the same settings.
"""

import asyncio
import random
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from cluster.logs import get_logger
from deployments.errors import ArtifactMissingError, ArtifactStoreError
from deployments.jobs.retries import RetrySettings

logger = get_logger(__name__)
T = TypeVar("T")

# The database does not answer; any other error of it is a fault of the program.
DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeoutError)
_DATABASE_S = 1.0


async def in_thread(call: Callable[..., T], *values: object) -> T:
    """Calls something in a thread; cancelled, it returns only once the call is over.

    A thread cannot be stopped: whoever cleans up behind a cancelled write must not do so before it.
    """
    running = asyncio.ensure_future(asyncio.to_thread(call, *values))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise


async def ask_database(
    call: Callable[..., T], *values: object, over: asyncio.Event | None = None
) -> T:
    """Calls the database in a thread until it answers, however long it is away.

    Args:
        call: Reads or writes.
        values: Its arguments.
        over: Once it is set, a failure is the last, and is raised.
    """
    while True:
        try:
            return await asyncio.to_thread(call, *values)
        except DATABASE_AWAY as error:
            if over is not None and over.is_set():
                raise
            logger.warning("database_away", error=type(error).__name__)
            await _pause(_DATABASE_S, over)


async def ask_store(
    call: Callable[..., T],
    *values: object,
    settings: RetrySettings,
    patience_s: float,
    over: asyncio.Event | None = None,
) -> T:
    """Calls the artifact store in a thread until it answers.

    Args:
        call: Reads or writes.
        values: Its arguments.
        settings: The waits in between.
        patience_s: How long to go on.
        over: Once it is set, a failure is the last.

    Raises:
        ArtifactMissingError: There is no such file, at once.
        ArtifactStoreError: It still fails.
    """
    by_s = time.monotonic() + patience_s
    failed = 0
    while True:
        try:
            return await in_thread(call, *values)
        except ArtifactMissingError:
            raise
        except ArtifactStoreError as error:
            failed += 1
            delay_s = settings.delay_s(failed, random.random())
            if time.monotonic() + delay_s > by_s or (over is not None and over.is_set()):
                raise
            logger.warning("artifact_store_away", failed=failed, error=str(error))
            await _pause(delay_s, over)


async def _pause(delay_s: float, over: asyncio.Event | None) -> None:
    if over is None:
        await asyncio.sleep(delay_s)
        return
    ended = asyncio.ensure_future(over.wait())
    try:
        await asyncio.wait({ended}, timeout=delay_s)
    finally:
        ended.cancel()
