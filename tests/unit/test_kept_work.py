"""Latents on their way to the disk and into the job's row, over real files and a real database."""

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sqlalchemy import Engine, text

from deployments.artifacts.latents import KeptWork
from deployments.artifacts.objects import Objects
from deployments.artifacts.store import ArtifactStore
from deployments.errors import ArtifactStoreError, LeaseLostError
from deployments.jobs.claims import Claim, Claims
from deployments.jobs.database import open_database
from deployments.jobs.insist import ask_database, ask_store
from deployments.jobs.keeper import Keeper
from deployments.jobs.retries import RetrySettings
from deployments.jobs.store import JobStore
from deployments.jobs.tables import Job
from model.scheduler import FlowSolver
from model.types import DenoiserFacts, Latents, SamplerSettings, SamplerState, Solver

SETTINGS = RetrySettings(backoff_s=0.01, max_backoff_s=0.02, store_patience_s=0.1)
LATENTS = Latents(np.arange(16 * 2 * 4 * 4, dtype=np.float32).reshape(16, 2, 4, 4))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    yield engine
    engine.dispose()


@pytest.fixture
def kept(tmp_path: Path) -> KeptWork:
    return KeptWork(ArtifactStore(Objects(f"file://{tmp_path / 'videos'}")))


def claim_one(engine: Engine) -> tuple[JobStore, Claims, Claim]:
    store = JobStore(engine)
    size = {"width": 96, "height": 64, "num_frames": 17, "num_inference_steps": 3}
    store.add(Job(id="a", model="m", prompt="p", seed="1", **size))
    claims = Claims(engine, "g", lease_s=60.0)
    (claim,) = claims.claim(1)
    return store, claims, claim


def block(tmp_path: Path) -> Path:
    """Makes the job's folder impossible, for root as well; returns what stands in its place."""
    obstacle = tmp_path / "videos" / "a"
    obstacle.write_text("not a folder")
    return obstacle


def test_latents_come_back_bit_by_bit_until_they_are_dropped(kept: KeptWork) -> None:
    assert kept.read_latents("a") is None
    kept.write_latents("a", LATENTS)
    read = kept.read_latents("a")
    assert read is not None
    np.testing.assert_array_equal(read.values, LATENTS.values)
    assert read.made_by is None
    facts = DenoiserFacts("sdpa", "none", False, False, 2, 2, "float32", 1.5, 2.5)
    kept.write_latents("a", replace(LATENTS, made_by=facts))
    assert kept.read_latents("a").made_by == facts
    kept.drop("a")
    kept.drop("a")
    assert kept.read_latents("a") is None


@pytest.mark.parametrize("solver", Solver)
def test_a_sampler_s_state_comes_back_as_it_was(kept: KeptWork, solver: Solver) -> None:
    sampler = SamplerSettings(num_inference_steps=6, solver=solver)
    run = FlowSolver(sampler, torch.device("cpu"))
    sample = torch.from_numpy(LATENTS.values)
    for index in range(3):
        sample = run.step(torch.sin(sample), index, sample)
    state = run.state(3, sample)
    assert kept.read_state("a") is None
    kept.write_state("a", state)
    read = kept.read_state("a")
    assert read is not None
    again = FlowSolver(sampler, torch.device("cpu"))
    resumed = again.restore(read)
    assert torch.equal(resumed, sample)
    for index in range(3, 6):
        sample = run.step(torch.sin(sample), index, sample)
        resumed = again.step(torch.sin(resumed), index, resumed)
    assert torch.equal(resumed, sample)
    kept.drop("a")
    assert kept.read_state("a") is None


def test_of_the_sampler_s_states_the_newest_is_kept(engine: Engine, kept: KeptWork) -> None:
    _, claims, claim = claim_one(engine)

    async def keep() -> None:
        keeper = Keeper(kept, claims, claim, SETTINGS)
        for index in range(1, 6):
            keeper.keep_state(SamplerState(index, LATENTS.values, {}, {"lower_order_nums": 2}))
        await keeper.finish()
        await keeper.close()

    asyncio.run(keep())
    read = kept.read_state("a")
    assert read is not None
    assert (read.index, read.counters) == (5, {"lower_order_nums": 2})


def test_the_row_says_so_once_the_latents_are_stored(engine: Engine, kept: KeptWork) -> None:
    store, claims, claim = claim_one(engine)

    async def keep() -> None:
        keeper = Keeper(kept, claims, claim, SETTINGS)
        await keeper.finish()
        assert not keeper.has_latents
        keeper.keep(LATENTS)
        await keeper.finish()
        await keeper.close()

    asyncio.run(keep())
    assert kept.read_latents("a") is not None
    assert store.get("a").latents_at is not None


def test_latents_wait_for_a_store_that_comes_back(
    engine: Engine, kept: KeptWork, tmp_path: Path
) -> None:
    store, claims, claim = claim_one(engine)
    obstacle = block(tmp_path)

    async def keep() -> None:
        keeper = Keeper(kept, claims, claim, RetrySettings(backoff_s=0.01, max_backoff_s=0.02))
        keeper.keep(LATENTS)
        await asyncio.sleep(0.05)
        assert store.get("a").latents_at is None
        obstacle.unlink()
        await keeper.finish()

    asyncio.run(keep())
    assert store.get("a").latents_at is not None


def test_a_store_that_stays_away_is_given_up_by_name(
    engine: Engine, kept: KeptWork, tmp_path: Path
) -> None:
    store, claims, claim = claim_one(engine)
    block(tmp_path)

    async def keep() -> None:
        keeper = Keeper(kept, claims, claim, SETTINGS)
        keeper.keep(LATENTS)
        with pytest.raises(ArtifactStoreError, match="the store failed"):
            await keeper.finish()
        await keeper.close()

    asyncio.run(keep())
    assert store.get("a").latents_at is None


def test_a_keeper_that_is_closed_tries_no_more(
    engine: Engine, kept: KeptWork, tmp_path: Path
) -> None:
    _, claims, claim = claim_one(engine)
    block(tmp_path)

    async def keep() -> None:
        keeper = Keeper(kept, claims, claim, RetrySettings(backoff_s=30.0))
        keeper.keep(LATENTS)
        await asyncio.sleep(0.05)
        await asyncio.wait_for(keeper.close(), 5)

    asyncio.run(keep())


def test_latents_of_a_job_that_was_lost_are_not_noted(engine: Engine, kept: KeptWork) -> None:
    store, claims, claim = claim_one(engine)
    store.cancel("a")

    async def keep() -> None:
        keeper = Keeper(kept, claims, claim, SETTINGS)
        keeper.keep(LATENTS)
        with pytest.raises(LeaseLostError):
            await keeper.finish()
        await keeper.close()

    asyncio.run(keep())
    assert store.get("a").latents_at is None


def test_a_database_that_is_away_is_asked_until_it_answers(engine: Engine) -> None:
    store, _, _ = claim_one(engine)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE jobs RENAME TO gone"))

    async def ask() -> Job:
        asked = asyncio.create_task(ask_database(store.get, "a"))
        await asyncio.sleep(0.05)
        assert not asked.done()
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE gone RENAME TO jobs"))
        return await asked

    assert asyncio.run(ask()).id == "a"


def test_a_file_that_is_missing_is_not_asked_for_again(tmp_path: Path) -> None:
    calls: list[str] = []

    def read() -> None:
        calls.append("once")
        raise ValueError("not the store's fault")

    with pytest.raises(ValueError, match="not the store's"):
        asyncio.run(ask_store(read, settings=SETTINGS, patience_s=60.0))
    assert calls == ["once"]


def test_a_write_that_is_cancelled_is_over_before_anybody_cleans_up() -> None:
    begun, written = threading.Event(), threading.Event()

    def write() -> None:
        begun.set()
        time.sleep(0.2)
        written.set()

    async def scenario() -> None:
        task = asyncio.create_task(ask_store(write, settings=SETTINGS, patience_s=60.0))
        while not begun.is_set():
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert written.is_set()

    asyncio.run(scenario())
