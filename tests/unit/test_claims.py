"""Claims on jobs, over real SQLite and (where its programs are) a real PostgreSQL."""

import threading
import time

import pytest
from sqlalchemy import Engine, text

from deployments.errors import JobNotFoundError, LeaseLostError, QueueFullError
from deployments.jobs.claims import Claim, Claims
from deployments.jobs.retries import Retry
from deployments.jobs.store import JobStore
from deployments.jobs.tables import COMPLETED, FAILED, IN_PROGRESS, QUEUED, Job
from deployments.messages import Stage, StageEvent, StageState

LEASE_S = 60.0


def add(engine: Engine, *names: str) -> JobStore:
    store = JobStore(engine)
    for name in names:
        store.add(
            Job(
                id=name,
                model="m",
                prompt="p",
                width=96,
                height=64,
                num_frames=17,
                seed="1",
                num_inference_steps=3,
                predicted_s=1.0,
            )
        )
    return store


def step(index: int) -> StageEvent:
    return StageEvent(Stage.DENOISER, StageState.STEP, index, 4, 0.5)


def run_out(engine: Engine, claims: list[Claim]) -> None:
    """Lets the leases of some jobs end now."""
    with engine.begin() as connection:
        for claim in claims:
            connection.execute(
                text("UPDATE jobs SET lease_until = :past WHERE id = :id"),
                {"past": time.time() - 1, "id": claim.job_id},
            )


def test_the_oldest_jobs_are_claimed_first_and_no_more_than_may_run(engine: Engine) -> None:
    store = add(engine, "a", "b", "c")
    mine, other = (Claims(engine, name, lease_s=LEASE_S) for name in ("mine", "other"))
    assert mine.claim(2) == [Claim("a", 1), Claim("b", 1)]
    assert other.claim(2) == []
    mine.complete(Claim("a", 1))
    assert other.claim(2) == [Claim("c", 1)]
    assert store.count() == {IN_PROGRESS: 2}
    assert store.get("c").owner == "other"


def test_gateways_that_claim_at_once_share_the_jobs(engine: Engine) -> None:
    names = [f"job-{n:02}" for n in range(40)]
    add(engine, *names)
    taken: list[str] = []
    start = threading.Barrier(4)

    def work(owner: str) -> None:
        claims = Claims(engine, owner, lease_s=LEASE_S)
        start.wait()
        while claimed := claims.claim(len(names)):
            taken.extend(claim.job_id for claim in claimed)

    gateways = [threading.Thread(target=work, args=(f"g{n}",)) for n in range(4)]
    for gateway in gateways:
        gateway.start()
    for gateway in gateways:
        gateway.join()
    assert sorted(taken) == names


def test_jobs_of_one_key_that_come_at_once_queue_up_behind_each_other(engine: Engine) -> None:
    start = threading.Barrier(4)

    def send(worker: int) -> None:
        start.wait()
        for number in range(10):
            add(engine, f"job-{worker}-{number}")

    senders = [threading.Thread(target=send, args=(n,)) for n in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    with engine.connect() as connection:
        starts = list(connection.scalars(text("SELECT fair_start FROM jobs ORDER BY fair_start")))
    assert starts == [float(n) for n in range(40)]


def test_of_jobs_that_come_at_once_no_more_are_taken_than_may_wait(engine: Engine) -> None:
    start, refused = threading.Barrier(8), []

    def send(number: int) -> None:
        size = {"width": 96, "height": 64, "num_frames": 17, "num_inference_steps": 3}
        job = Job(id=f"job-{number}", model="m", prompt="p", seed="1", **size)
        start.wait()
        try:
            JobStore(engine).add(job, max_unfinished=3)
        except QueueFullError:
            refused.append(number)

    senders = [threading.Thread(target=send, args=(n,)) for n in range(8)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert len(refused) == 5
    assert JobStore(engine).num_unfinished() == 3


def test_progress_is_written_by_the_claim_alone(engine: Engine) -> None:
    store = add(engine, "a")
    mine, other = (Claims(engine, name, lease_s=LEASE_S) for name in ("mine", "other"))
    (claim,) = mine.claim(1)
    mine.record(claim, step(2))
    mine.record(claim, StageEvent(Stage.TEXT_ENCODER, StageState.FINISHED, 1, 1, 1.5))
    mine.record(claim, step(1))
    job = store.get("a")
    assert (job.stage, job.step, job.progress) == ("denoiser", 1, 47)
    assert job.stage_durations == {"text_encoder": 1.5}
    for write in (
        lambda: other.record(claim, step(3)),
        lambda: other.complete(claim),
        lambda: mine.fail(Claim("a", 2), "x", "y"),
    ):
        with pytest.raises(LeaseLostError, match="no longer"):
            write()
    mine.complete(claim)
    with pytest.raises(LeaseLostError):
        mine.record(claim, step(4))
    assert (store.get("a").status, store.get("a").progress) == (COMPLETED, 100)


def test_a_job_of_a_gateway_that_is_gone_waits_again(engine: Engine) -> None:
    store = add(engine, "a", "b")
    gone, next_one = (Claims(engine, name, lease_s=LEASE_S) for name in ("gone", "next"))
    first, kept = gone.claim(2)
    gone.record(first, step(2))
    run_out(engine, [first])
    assert next_one.recover() == []
    job = store.get("a")
    assert (job.status, job.stage, job.step, job.progress) == (QUEUED, None, None, 0)
    assert job.failures == 1
    assert next_one.claim(2) == [Claim("a", 2)]
    with pytest.raises(LeaseLostError):
        gone.record(first, step(3))
    assert gone.still_held([first, kept]) == {kept}


def test_a_gateway_that_stood_still_takes_no_job_from_itself(engine: Engine) -> None:
    store = add(engine, "a", "b")
    claims = Claims(engine, "g", lease_s=LEASE_S)
    held, forgotten = claims.claim(2)
    run_out(engine, [held, forgotten])
    claims.recover([held])
    assert (store.get(held.job_id).status, store.get(forgotten.job_id).status) == (
        IN_PROGRESS,
        QUEUED,
    )


def test_a_job_that_loses_its_gateway_again_and_again_fails(engine: Engine) -> None:
    store = add(engine, "a")
    claims = Claims(engine, "g", lease_s=LEASE_S, max_failures=3)
    for _ in range(2):
        run_out(engine, claims.claim(1))
        assert claims.recover() == []
    run_out(engine, claims.claim(1))
    assert claims.recover() == ["a"]
    assert (store.get("a").status, store.get("a").error_code) == (FAILED, "interrupted")


def test_a_renewed_lease_does_not_run_out(engine: Engine) -> None:
    store = add(engine, "a")
    mine, other = (Claims(engine, name, lease_s=LEASE_S) for name in ("mine", "other"))
    claimed = mine.claim(1)
    run_out(engine, claimed)
    mine.renew(claimed)
    other.recover()
    assert mine.still_held(claimed) == set(claimed)
    assert (store.get("a").lease_until or 0) > time.time() + LEASE_S / 2


def test_who_cancels_or_deletes_a_job_takes_it_from_its_gateway(engine: Engine) -> None:
    store = add(engine, "a", "b")
    claims = Claims(engine, "g", lease_s=LEASE_S)
    first, second = claims.claim(2)
    assert store.cancel("a")
    assert not store.cancel("a")
    store.delete("b")
    assert claims.still_held([first, second]) == set()
    for claim in (first, second):
        with pytest.raises(LeaseLostError):
            claims.complete(claim)
    assert store.get("a").error_code == "cancelled"


def test_a_released_job_waits_again(engine: Engine) -> None:
    store = add(engine, "a")
    claims = Claims(engine, "g", lease_s=LEASE_S)
    (claim,) = claims.claim(1)
    claims.release(claim)
    assert store.get("a").status == QUEUED
    assert claims.claim(1) == [Claim("a", 2)]


def test_a_retried_job_waits_for_its_time_and_remembers_why(engine: Engine) -> None:
    store = add(engine, "a")
    claims = Claims(engine, "g", lease_s=LEASE_S)
    (first,) = claims.claim(1)
    claims.record(first, step(2))
    claims.retry(first, Retry(delay_s=30.0, counted=False, struck=True))
    job = store.get("a")
    assert (job.status, job.progress, job.failures, job.strikes) == (QUEUED, 0, 0, 1)
    assert claims.claim(1) == []
    with pytest.raises(LeaseLostError):
        claims.retry(first, Retry(delay_s=0.0))
    (second,) = _claim_after_wait(engine, claims)
    claims.retry(second, Retry(delay_s=0.0))
    assert (store.get("a").failures, store.get("a").strikes) == (1, 1)
    assert claims.claim(1) == [Claim("a", 3)]


def _claim_after_wait(engine: Engine, claims: Claims) -> list[Claim]:
    with engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET not_before = :now"), {"now": time.time()})
    return claims.claim(1)


@pytest.mark.parametrize("goes", ["retry", "release", "recover"])
def test_a_job_with_its_latents_waits_with_what_was_done(engine: Engine, goes: str) -> None:
    store = add(engine, "a")
    claims = Claims(engine, "g", lease_s=LEASE_S)
    (claim,) = claims.claim(1)
    claims.record(claim, StageEvent(Stage.DENOISER, StageState.FINISHED, 4, 4, 9.0))
    claims.note_latents(claim)
    since_s = store.get("a").latents_at
    claims.note_latents(claim)
    if goes == "retry":
        claims.retry(claim, Retry(delay_s=0.0))
    elif goes == "release":
        claims.release(claim)
    else:
        run_out(engine, [claim])
        claims.recover()
    job = store.get("a")
    assert (job.status, job.progress, job.stage_durations) == (QUEUED, 93, {"denoiser": 9.0})
    assert job.latents_at == since_s is not None
    with pytest.raises(LeaseLostError):
        claims.note_latents(claim)


def test_a_job_that_waited_too_long_expires(engine: Engine) -> None:
    store = add(engine, "old", "held", "new")
    claims = Claims(engine, "g", lease_s=LEASE_S)
    with engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET created_at = 1 WHERE id <> 'new'"))
        connection.execute(text("UPDATE jobs SET not_before = 1e12 WHERE id = 'old'"))
    (held,) = claims.claim(1)
    assert claims.expire(3600.0) == ["old"]
    assert (store.get("old").status, store.get("old").error_code) == (FAILED, "expired")
    assert claims.still_held([held]) == {held}
    assert store.get("new").status == QUEUED


def test_what_was_made_since_the_gangs_are_as_they_are_tells_of_their_memory(
    engine: Engine,
) -> None:
    store = add(engine, "small", "large")
    with engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET num_frames = 81 WHERE id = 'large'"))
    small, large = store.get("small"), store.get("large")
    claims = Claims(engine, "g", lease_s=LEASE_S)
    _, second = claims.claim(2)
    assert not store.has_completed(small, 0.0)
    claims.complete(second)
    assert second.job_id == "large"
    assert store.has_completed(small, 0.0)
    assert store.has_completed(large, 0.0)
    large.num_frames = 85
    assert not store.has_completed(large, 0.0)
    assert not store.has_completed(small, time.time() + 1)


@pytest.mark.parametrize("name", ["video_\0", "\ud800", "video_1\n"])
def test_an_id_that_a_database_cannot_hold_is_not_found(engine: Engine, name: str) -> None:
    with pytest.raises(JobNotFoundError):
        JobStore(engine).get(name)
