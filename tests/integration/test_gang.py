"""A gang of real rank processes: jobs, cancellation, death and healing."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cluster.config import GangConfig
from cluster.errors import (
    GangStartError,
    GangStoppedError,
    RankDiedError,
    RankFailedError,
    RankOutOfMemoryError,
    StepTimeoutError,
)
from cluster.gang import Gang
from cluster.health import Phase
from cluster.placement import replica_bundles
from model.errors import ConfigurationError, DenoiseCancelled, InvalidInputError
from tests.support.event_loop import Loop
from tests.support.owners import GangOwner
from tests.support.programs import Counter, FailingFactory, FailingOnceMade, Tick, Work

STEP_TIMEOUT_S = 3.0
HEAL_S = 60.0
CONFIG = GangConfig(
    size=2,
    threads_per_rank=1,
    start_timeout_s=60.0,
    first_step_timeout_s=6.0,
    step_timeout_s=STEP_TIMEOUT_S,
    max_heal_attempts=1,
)
LONG = Work(num_steps=10_000, step_s=0.02)


@pytest.fixture(scope="module")
def loop(ray_cluster: None) -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def gang(loop: Loop) -> Iterator[Gang]:
    """Shared: whatever a test does to it, it heals."""
    gang = loop(Gang.start(CONFIG, Counter))
    yield gang
    pids = [place.pid for place in gang.places]
    loop(gang.stop())
    assert not any(map(is_alive, pids))
    with pytest.raises(GangStoppedError):
        gang.check_health()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def collect(gang: Gang, job_id: str, work: Work) -> list[Any]:
    return [item async for item in gang.run(job_id, work)]


async def first_items(gang: Gang, job_id: str, work: Work, count: int) -> Any:
    """A running job that has produced some items, as its iterator."""
    items = gang.run(job_id, work)
    for _ in range(count):
        await anext(items)
    return items


async def drain(items: Any) -> None:
    async for _ in items:
        pass


def test_streams_the_items_of_rank_0(loop: Loop, gang: Gang) -> None:
    ticks = loop(collect(gang, "stream", Work(num_steps=3)))
    assert [tick.index for tick in ticks] == [0, 1, 2]
    assert all(tick.rank_sum == 3 for tick in ticks)
    assert gang.state.phase is Phase.IDLE
    gang.check_health()


def test_items_arrive_while_the_job_runs(loop: Loop, gang: Gang) -> None:
    async def scenario() -> None:
        items = await first_items(gang, "live", LONG, 5)
        assert gang.state.phase is Phase.RUNNING
        assert gang.state.job_id == "live"
        assert gang.state.num_items >= 5
        await items.aclose()

    loop(scenario())


def test_the_program_keeps_its_state_between_jobs(loop: Loop, gang: Gang) -> None:
    [*_, before] = loop(collect(gang, "state-1", Work(num_steps=2)))
    [*_, after] = loop(collect(gang, "state-2", Work(num_steps=3)))
    assert after.total == before.total + 3


def test_jobs_run_in_the_order_they_came(loop: Loop, gang: Gang) -> None:
    async def scenario() -> list[list[Tick]]:
        jobs = [collect(gang, f"fifo-{index}", Work(num_steps=4)) for index in range(4)]
        return await asyncio.gather(*jobs)

    ticks = [tick for job in loop(scenario()) for tick in job]
    totals = [tick.total for tick in ticks]
    assert totals == list(range(totals[0], totals[0] + 16))


def test_a_job_name_is_taken_while_the_job_is_unfinished(loop: Loop, gang: Gang) -> None:
    async def scenario() -> None:
        items = await first_items(gang, "twin", LONG, 1)
        with pytest.raises(ValueError, match="twin"):
            await collect(gang, "twin", Work(num_steps=1))
        assert gang.state.job_id == "twin", "the refused twin must not cancel the first"
        await items.aclose()

    loop(scenario())


def test_cancel_of_a_running_job_frees_the_gang_within_a_step(loop: Loop, gang: Gang) -> None:
    slow = Work(num_steps=100, step_s=0.5)

    async def scenario() -> float:
        items = await first_items(gang, "running", slow, 1)
        told_s = time.monotonic()
        assert gang.cancel("running")
        with pytest.raises(DenoiseCancelled):
            await drain(items)
        [tick] = await collect(gang, "next", Work(num_steps=1))
        return tick.at_s - told_s

    # The step that was under way, the next job's first, and the hand-over.
    assert loop(scenario()) < 2 * slow.step_s


def test_cancel_of_a_queued_job_takes_it_out(loop: Loop, gang: Gang) -> None:
    async def scenario() -> None:
        items = await first_items(gang, "first", LONG, 1)
        queued = asyncio.ensure_future(collect(gang, "queued", Work(num_steps=1)))
        await asyncio.sleep(0)
        assert gang.cancel("queued")
        with pytest.raises(DenoiseCancelled):
            await queued
        assert gang.state.job_id == "first"
        await items.aclose()

    loop(scenario())


def test_cancel_of_an_unknown_job_says_so(gang: Gang) -> None:
    assert not gang.cancel("never seen")


def test_a_closed_consumer_cancels_its_job(loop: Loop, gang: Gang) -> None:
    async def scenario() -> None:
        reader = asyncio.ensure_future(collect(gang, "gone", LONG))
        while gang.state.num_items < 3:
            await asyncio.sleep(0.01)
        reader.cancel()
        ticks = await collect(gang, "after", Work(num_steps=2))
        assert len(ticks) == 2

    loop(scenario())


def test_a_refusal_by_all_ranks_costs_the_job_only(loop: Loop, gang: Gang) -> None:
    places = gang.places
    with pytest.raises(InvalidInputError) as refusal:
        loop(collect(gang, "refused", Work(num_steps=3, refuse_on=(0, 1))))
    assert refusal.value.field == "num_steps"
    assert len(loop(collect(gang, "accepted", Work(num_steps=1)))) == 1
    assert gang.places == places


def test_a_request_that_does_not_pickle_costs_the_job_only(loop: Loop, gang: Gang) -> None:
    with pytest.raises(InvalidInputError, match="picklable"):
        loop(collect(gang, "unpicklable", threading.Lock()))  # type: ignore[arg-type]
    assert len(loop(collect(gang, "picklable", Work(num_steps=1)))) == 1


def expect_healed(loop: Loop, gang: Gang, old_pids: set[int]) -> None:
    """The gang runs a job with new ranks, and none of the old ones is left."""
    started_s = time.monotonic()
    assert len(loop(collect(gang, "healed", Work(num_steps=2)))) == 2
    assert time.monotonic() - started_s < HEAL_S
    assert not old_pids & {place.pid for place in gang.places}
    assert not any(map(is_alive, old_pids))
    gang.check_health()


def pids_of(gang: Gang) -> set[int]:
    return {place.pid for place in gang.places}


@pytest.mark.parametrize(
    "work",
    [Work(num_steps=3, break_on=(0, 1)), Work(num_steps=3, refuse_on=(1,))],
    ids=["fault on all ranks", "refusal by one rank"],
)
def test_a_broken_program_fails_its_job_and_the_gang_heals(
    loop: Loop, gang: Gang, work: Work
) -> None:
    pids = pids_of(gang)
    with pytest.raises(RankFailedError) as failure:
        loop(collect(gang, "broken", work))
    if work.break_on:
        assert "ZeroDivisionError: this program was told to break" in str(failure.value)
        assert "_misbehave" in failure.value.rank_traceback
    else:
        assert failure.value.rank == 1
        assert "InvalidInputError" in failure.value.problem
    expect_healed(loop, gang, pids)


def test_a_rank_without_memory_says_so_and_the_gang_heals(loop: Loop, gang: Gang) -> None:
    pids = pids_of(gang)
    with pytest.raises(RankOutOfMemoryError) as failure:
        loop(collect(gang, "starved", Work(num_steps=3, starve_on=(1,))))
    assert failure.value.rank == 1
    assert "MemoryError" in failure.value.problem
    expect_healed(loop, gang, pids)


def test_sigkill_of_a_rank_fails_the_job_at_once_and_spares_the_queued(
    loop: Loop, gang: Gang
) -> None:
    async def scenario() -> float:
        items = await first_items(gang, "killed", LONG, 3)
        queued = asyncio.ensure_future(collect(gang, "queued", Work(num_steps=2)))
        await asyncio.sleep(0)
        os.kill(gang.places[1].pid, signal.SIGKILL)
        killed_s = time.monotonic()
        with pytest.raises(RankDiedError) as death:
            await drain(items)
        assert death.value.ranks == (1,)
        detected_s = time.monotonic() - killed_s
        assert gang.state.phase is Phase.HEALING
        assert len(await queued) == 2
        return detected_s

    pids = pids_of(gang)
    assert loop(scenario()) < 2.0
    expect_healed(loop, gang, pids)


def test_death_of_an_idle_rank_is_healed_before_the_next_job(loop: Loop, gang: Gang) -> None:
    async def scenario() -> None:
        os.kill(gang.places[0].pid, signal.SIGKILL)
        while gang.state.phase is Phase.IDLE:
            await asyncio.sleep(0.01)

    pids = pids_of(gang)
    loop(scenario())
    assert gang.state.phase is Phase.HEALING
    expect_healed(loop, gang, pids)


def test_sigstop_of_a_rank_is_noticed_within_the_step_deadline(loop: Loop, gang: Gang) -> None:
    async def scenario() -> float:
        items = await first_items(gang, "stopped", LONG, 3)
        os.kill(gang.places[1].pid, signal.SIGSTOP)
        stopped_s = time.monotonic()
        with pytest.raises(StepTimeoutError) as timeout:
            await drain(items)
        assert timeout.value.stuck == (1,)
        return time.monotonic() - stopped_s

    pids = pids_of(gang)
    assert loop(scenario()) < STEP_TIMEOUT_S + 0.5
    expect_healed(loop, gang, pids)


def test_two_gangs_share_a_host(loop: Loop, gang: Gang) -> None:
    async def scenario() -> None:
        other = await Gang.start(CONFIG, Counter)
        try:
            both = [collect(g, "both", Work(num_steps=10)) for g in (gang, other)]
            here, there = await asyncio.gather(*both)
            assert [len(here), len(there)] == [10, 10]
            assert there[-1].total == 10
        finally:
            await other.stop()

    loop(scenario())


def test_start_reports_every_rank_and_leaves_nothing(loop: Loop, gang: Gang) -> None:
    config = CONFIG.model_copy(update={"size": 3, "ulysses_degree": 3})
    before = ray.available_resources()["CPU"]
    with pytest.raises(GangStartError) as failure:
        loop(Gang.start(config, FailingFactory(fail_on=(0, 2), sleep_on=(1,))))
    assert failure.value.rank_errors == {
        0: "FileNotFoundError: no weights for rank 0",
        1: "not ready in time",
        2: "FileNotFoundError: no weights for rank 2",
    }
    assert "rank 2: FileNotFoundError: no weights for rank 2" in str(failure.value)
    wait_until(lambda: ray.available_resources()["CPU"] >= before, 10.0)


def test_start_without_room_names_what_is_missing(loop: Loop) -> None:
    config = CONFIG.model_copy(update={"cpus_per_rank": 100.0, "start_timeout_s": 1.0})
    with pytest.raises(GangStartError, match=r"no room for \{'CPU': 100.0\}"):
        loop(Gang.start(config, Counter))


def test_a_placement_group_of_another_size_is_refused(loop: Loop) -> None:
    group = placement_group([{"CPU": 1}] * 5)
    try:
        with pytest.raises(ConfigurationError, match="replica_bundles"):
            loop(Gang.start(CONFIG, Counter, placement_group=group))
    finally:
        remove_placement_group(group)


def test_a_gang_that_cannot_heal_reports_itself(loop: Loop, tmp_path: Path) -> None:
    marker = tmp_path / "weights are gone"

    async def scenario() -> None:
        gang = await Gang.start(CONFIG, FailingOnceMade(str(marker)))
        pids = pids_of(gang)
        marker.touch()
        items = await first_items(gang, "last", LONG, 1)
        queued = asyncio.ensure_future(collect(gang, "queued", Work(num_steps=1)))
        os.kill(gang.places[0].pid, signal.SIGKILL)
        with pytest.raises(RankDiedError):
            await drain(items)
        gang.check_health()
        with pytest.raises(GangStoppedError, match="the weights are gone"):
            await queued
        with pytest.raises(GangStoppedError, match="the weights are gone"):
            gang.check_health()
        with pytest.raises(GangStoppedError):
            await collect(gang, "refused", Work(num_steps=1))
        assert not any(map(is_alive, pids))
        await gang.stop()

    loop(scenario())


def test_a_cancelled_request_of_the_owner_leaves_the_gang_whole(ray_cluster: None) -> None:
    """Ray cancels what a request has called along with the request; the ranks must not be hit.

    Then the owner is killed: its ranks must not outlive it.
    """
    group = placement_group(replica_bundles(CONFIG), strategy=CONFIG.placement)
    place = PlacementGroupSchedulingStrategy(group, 0)
    owner = GangOwner.options(scheduling_strategy=place).remote(CONFIG, Counter)
    pids = ray.get(owner.start.remote())
    slow = Work(num_steps=1000, step_s=0.5)
    try:
        for attempt in range(2):
            stream = owner.run.remote(f"cancelled-{attempt}", slow)
            ray.get([next(stream), next(stream)])
            told_s = time.monotonic()
            ray.cancel(stream, recursive=True)
            [tick] = map(ray.get, owner.run.remote(f"next-{attempt}", Work(num_steps=1)))
            assert tick.at_s - told_s < 2 * slow.step_s
        assert ray.get(owner.pids.remote()) == pids, "no rank was lost"
    finally:
        os.kill(ray.get(owner.pid.remote()), signal.SIGKILL)
        wait_until(lambda: not any(map(is_alive, pids)), 10.0)
        remove_placement_group(group)


def wait_until(condition: Any, timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come true in time"
        time.sleep(0.05)
