"""Claims are held by a gateway's runner, whatever else the gateway waits for."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, cast

from sqlalchemy import Engine, text

from deployments.jobs.claims import Claim, Claims
from deployments.jobs.runner import JobRunner
from deployments.jobs.store import JobStore
from deployments.jobs.tables import IN_PROGRESS, Job

LEASE_S = 2.0


class Waiting:
    """A pipeline that is there, and work on it that never ends."""

    async def deployed(self) -> None:
        pass

    async def run(self, claim: Claim) -> None:
        await asyncio.Event().wait()


def add(engine: Engine, name: str) -> JobStore:
    store = JobStore(engine)
    size = {"width": 96, "height": 64, "num_frames": 17, "num_inference_steps": 3}
    store.add(Job(id=name, model="m", prompt="p", seed="1", **size))
    return store


def runner(
    engine: Engine, owner: str, *, max_in_progress: int = 1, lease_s: float = LEASE_S
) -> JobRunner:
    waiting: Any = Waiting()
    return JobRunner(
        Claims(engine, owner, lease_s=lease_s),
        waiting,
        waiting,
        cast(Any, None),
        max_in_progress=max_in_progress,
        lease_s=lease_s,
        max_queue_s=1e9,
    )


async def until(holds: Callable[[], bool]) -> None:
    by_s = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < by_s
        await asyncio.sleep(0.02)


async def beside(*runners: JobRunner, scenario: Callable[[], Awaitable[None]]) -> None:
    for each in runners:
        each.start()
    await scenario()
    for each in runners:
        each.check_health()
        await each.drain(0.0)


def test_leases_are_renewed_while_every_thread_waits_for_a_store(engine: Engine) -> None:
    store = add(engine, "a")
    back = threading.Event()

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(2))
        await until(lambda: store.get("a").status == IN_PROGRESS)
        waiting = [loop.run_in_executor(None, back.wait) for _ in range(8)]
        try:
            await asyncio.sleep(1.5 * LEASE_S)
            assert Claims(engine, "other", lease_s=LEASE_S).recover() == []
            assert (store.get("a").status, store.get("a").owner) == (IN_PROGRESS, "mine")
        finally:
            back.set()
            await asyncio.gather(*waiting)

    asyncio.run(beside(runner(engine, "mine"), scenario=scenario))


def test_a_lease_that_ended_during_an_outage_may_be_renewed_after_it(engine: Engine) -> None:
    store = add(engine, "a")
    mine = Claims(engine, "mine", lease_s=60.0)
    claimed = mine.claim(1)
    other = runner(engine, "other", max_in_progress=0, lease_s=6.0)

    async def scenario() -> None:
        await asyncio.sleep(0.5)
        with outage(engine):
            await asyncio.sleep(1.5)
        with engine.begin() as connection:
            connection.execute(text("UPDATE jobs SET lease_until = 1"))
        await asyncio.sleep(3.5)  # long enough for the other to look, shorter than its lease
        mine.renew(claimed)
        await asyncio.sleep(3.5)
        assert (store.get("a").owner, store.get("a").attempts) == ("mine", 1)

    asyncio.run(beside(other, scenario=scenario))


@contextmanager
def outage(engine: Engine) -> Iterator[None]:
    """No statement about jobs succeeds inside."""
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE jobs RENAME TO gone"))
    yield
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE gone RENAME TO jobs"))
