"""Places, waits and admission over a real SQLite file."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from autoscaling.order import NORMAL
from deployments.errors import WaitTooLongError
from deployments.jobs.claims import Claim, Claims
from deployments.jobs.database import open_database
from deployments.jobs.forecast import Forecast
from deployments.jobs.prediction import GangClock, Predictor
from deployments.jobs.queue import gangs_behind, max_in_progress
from deployments.jobs.store import JobStore
from deployments.jobs.tables import Job
from deployments.messages import Stage, StageEvent, StageState


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    yield engine
    engine.dispose()


def job(name: str, *, key_id: str = "", priority: str = NORMAL, frames: int = 17) -> Job:
    return Job(
        id=name,
        model="m",
        prompt="p",
        width=160,
        height=96,
        num_frames=frames,
        seed="1",
        num_inference_steps=4,
        key_id=key_id,
        priority=priority,
    )


def add(engine: Engine, *jobs: Job, predicted_s: float = 10.0) -> None:
    for each in jobs:
        each.predicted_s = predicted_s
        JobStore(engine).add(each)


def teach(engine: Engine, gang_s: float) -> None:
    """Lets one clip of 17 frames be made in so long."""
    claims = Claims(engine, "teacher", lease_s=60)
    add(engine, job(f"lesson-{gang_s}", priority="high"))
    (claim,) = claims.claim(1)
    claims.complete(claim, {"gang_s": gang_s})


def step(index: int, seconds: float) -> StageEvent:
    return StageEvent(Stage.DENOISER, StageState.STEP, index, 4, seconds)


def forecast(engine: Engine, *, gangs: int = 1, max_wait_s: float | None = None) -> Forecast:
    limit = max_in_progress(gangs)
    return Forecast(engine, max_in_progress=lambda: limit, max_wait_s=max_wait_s)


def test_what_was_measured_predicts_and_survives_a_restart(engine: Engine) -> None:
    short, long = job("s").work, job("l", frames=65).work
    assert 0 < Predictor(engine).seconds(short) < Predictor(engine).seconds(long)
    teach(engine, 8.0)
    assert Predictor(engine).seconds(short) == pytest.approx(8.0)
    # 17 latent frames instead of 5, a size that never ran.
    assert Predictor(engine).seconds(long) >= 17 / 5 * 8.0


def test_a_clip_is_timed_without_its_wait_for_the_gang() -> None:
    clock = GangClock()
    for event in (
        StageEvent(Stage.DENOISER, StageState.STARTED, 0, 4, 0.0),
        step(1, 100.0),
        step(3, 104.0),
        StageEvent(Stage.VAE_DECODER, StageState.STEP, 9, 9, 999.0),
    ):
        clock.see(event)
    assert clock.clip_s == pytest.approx(8.0)
    assert GangClock().clip_s is None


def test_another_keys_only_clip_is_not_behind_a_crowd(engine: Engine) -> None:
    add(engine, *(job(f"crowd-{n:02}", key_id="crowd") for n in range(40)))
    add(engine, job("one", key_id="one"))
    claims = Claims(engine, "g", lease_s=60)
    assert claims.claim(2) == [Claim("crowd-00", 1), Claim("one", 1)]


def test_places_follow_the_order_in_which_jobs_are_claimed(engine: Engine) -> None:
    jobs = [job(f"j{n}", key_id=str(n % 3), priority=p) for n, p in enumerate(["low", NORMAL] * 6)]
    urgent = job("urgent")
    urgent.due_at_s = time.time() + 35.0
    add(engine, *jobs, urgent)
    outlooks = forecast(engine).of([*jobs, urgent])
    places = {name: each.queue_position for name, each in outlooks.items()}
    claimed = [claim.job_id for claim in Claims(engine, "g", lease_s=60).claim(4)]
    assert sorted(places.values()) == list(range(1, 14))  # type: ignore[type-var]
    assert claimed == sorted(places, key=lambda name: places[name] or 0)[:4]


def test_the_policy_hears_of_the_queue_in_the_order_of_claims(engine: Engine) -> None:
    add(engine, job("long", frames=65), predicted_s=40.0)
    add(engine, job("short"), predicted_s=1.0)
    works = forecast(engine).queue()
    assert works == (job("short").work, job("long", frames=65).work)


def test_etas_count_the_work_before_a_job_on_all_gangs(engine: Engine) -> None:
    teach(engine, 10.0)
    jobs = [job(name) for name in "abcd"]
    add(engine, *jobs)
    claims = Claims(engine, "g", lease_s=60)
    first, *_ = claims.claim(2)
    claims.record(first, step(2, 5.0))
    outlooks = forecast(engine, gangs=2).of([JobStore(engine).get(name) for name in "abcd"])
    etas = [outlooks[name].eta_seconds for name in "abcd"]
    assert etas == pytest.approx([5.0, 10.0, 15.0, 20.0])
    assert [outlooks[name].queue_position for name in "abcd"] == [None, None, 1, 2]


def test_without_a_gang_nobody_knows_the_end(engine: Engine) -> None:
    add(engine, job("a"))
    outlook = forecast(engine, gangs=0).of([job("a")])["a"]
    assert (outlook.queue_position, outlook.eta_seconds) == (1, None)


def test_a_job_that_would_wait_too_long_hears_when_to_come_back(engine: Engine) -> None:
    teach(engine, 10.0)
    limited = forecast(engine, max_wait_s=25.0)
    for name in "abc":
        each = job(name)
        limited.admit(each)
        assert each.predicted_s == pytest.approx(10.0)
        JobStore(engine).add(each)
    with pytest.raises(WaitTooLongError, match="30 s") as refused:
        limited.admit(job("d"))
    assert refused.value.retry_after_s == pytest.approx(5.0, abs=0.5)
    # Another key's turn comes sooner.
    limited.admit(job("e", key_id="other", priority="high"))
    forecast(engine).admit(job("f"))


def test_two_hundred_polls_read_the_queue_once(engine: Engine) -> None:
    add(engine, job("a"))
    seen = forecast(engine)
    seen.of([job("a")])
    JobStore(engine).delete("a")
    assert all(seen.of([job("a")])["a"].queue_position == 1 for _ in range(200))


@pytest.mark.parametrize("gangs", [1, 2, 7])
def test_the_number_handed_over_tells_the_gangs(gangs: int) -> None:
    assert gangs_behind(max_in_progress(gangs)) == gangs
    assert (max_in_progress(0), gangs_behind(0)) == (0, 1)
