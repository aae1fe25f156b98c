"""Whatever gateways do to jobs, in whatever order: a state machine over the real database."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from autoscaling.order import PRIORITIES
from deployments.errors import JobNotFoundError, LeaseLostError
from deployments.jobs.claims import Claim, Claims
from deployments.jobs.database import open_database
from deployments.jobs.retries import Retry
from deployments.jobs.store import JobStore
from deployments.jobs.tables import COMPLETED, FAILED, IN_PROGRESS, QUEUED, Job
from deployments.messages import Stage, StageEvent, StageState

LEASE_S, MAX_FAILURES, MAX_QUEUE_S = 30.0, 3, 200.0
GATEWAYS = ("left", "right")
RULES = settings(
    max_examples=15,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


@dataclass
class Known:
    """What must be true of a job."""

    status: str = QUEUED
    attempts: int = 0
    owner: str | None = None
    lease_until: float | None = None
    failures: int = 0
    strikes: int = 0
    denoised: bool = False
    waits_until: float = 0.0
    came_s: float = 0.0
    progress: int = 0


class JobMachine(RuleBasedStateMachine):
    """Two gateways, their clocks alike, and clients."""

    url: str
    # Opened once for all runs, and again by `restart`: that costs more than a whole run.
    engine: Engine | None = None
    jobs = Bundle("jobs")
    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1e9
        self.known: dict[str, Known] = {}
        self.deleted: set[str] = set()
        self.idempotency: set[tuple[str, str]] = set()
        self.issued: dict[str, set[Claim]] = {name: set() for name in GATEWAYS}
        self.count = 0
        self.restarted = False
        if type(self).engine is None:
            type(self).engine = open_database(self.url)
        self.start()
        with self.database.begin() as connection:
            connection.execute(text("DELETE FROM jobs"))

    @property
    def database(self) -> Engine:
        assert self.engine is not None
        return self.engine

    def start(self) -> None:
        self.store = JobStore(self.database)
        self.gateways = {
            name: Claims(
                self.database,
                name,
                lease_s=LEASE_S,
                max_failures=MAX_FAILURES,
                clock=lambda: self.now_s,
            )
            for name in GATEWAYS
        }

    # Clients

    @initialize(target=jobs)
    def begin(self) -> Any:
        return multiple(*(self.add(key, None, "normal", 5.0, None) for key in ("", "k1", "", "k2")))

    @rule(
        target=jobs,
        key=st.sampled_from(["", "k1", "k2"]),
        idempotency_key=st.none() | st.sampled_from(["i1", "i2"]),
        priority=st.sampled_from(PRIORITIES),
        predicted_s=st.floats(0.1, 100),
        due_in_s=st.none() | st.floats(1, 200),
    )
    def add(
        self,
        key: str,
        idempotency_key: str | None,
        priority: str,
        predicted_s: float,
        due_in_s: float | None,
    ) -> Any:
        self.count += 1
        job = Job(
            id=f"job-{self.count}",
            model="m",
            prompt="p",
            width=96,
            height=64,
            num_frames=17,
            seed="1",
            num_inference_steps=3,
            key_id=key,
            idempotency_key=idempotency_key,
            priority=priority,
            predicted_s=predicted_s,
            created_at=self.now_s,
            due_at_s=None if due_in_s is None else self.now_s + due_in_s,
        )
        name = job.id
        if idempotency_key is not None and (key, idempotency_key) in self.idempotency:
            with pytest.raises(IntegrityError):
                self.store.add(job)
            return multiple()
        self.store.add(job)
        self.known[name] = Known(came_s=self.now_s)
        if idempotency_key is not None:
            self.idempotency.add((key, idempotency_key))
        return name

    @rule(job=jobs)
    def cancel(self, job: str) -> None:
        known = self.known.get(job)
        runs = known is not None and known.status in (QUEUED, IN_PROGRESS)
        assert self.store.cancel(job) == runs
        if known is not None and runs:
            known.status, known.owner, known.lease_until = FAILED, None, None

    @rule(job=jobs)
    def delete(self, job: str) -> None:
        if job in self.known:
            row = self.store.get(job)
            self.store.delete(job)
            del self.known[job]
            self.deleted.add(job)
            self.idempotency.discard((row.key_id, row.idempotency_key or ""))
        else:
            with pytest.raises(JobNotFoundError):
                self.store.delete(job)

    # Gateways

    @rule(target=claims, gateway=st.sampled_from(GATEWAYS), limit=st.integers(1, 4))
    def claim(self, gateway: str, limit: int) -> Any:
        running = self.with_status(IN_PROGRESS)
        ready = [
            name for name in self.with_status(QUEUED) if self.known[name].waits_until <= self.now_s
        ]
        taken = self.gateways[gateway].claim(limit)
        # Nothing waits beside a free place, and nobody takes more than there are.
        assert len(taken) == max(0, min(limit - len(running), len(ready)))
        for claim in taken:
            known = self.known[claim.job_id]
            assert claim.job_id in ready
            assert claim.attempt == known.attempts + 1
            known.status, known.owner = IN_PROGRESS, gateway
            known.attempts, known.lease_until = claim.attempt, self.now_s + LEASE_S
            known.progress = self.store.get(claim.job_id).progress
        self.issued[gateway].update(taken)
        return multiple(*((gateway, claim) for claim in taken))

    @rule(gateway=st.sampled_from(GATEWAYS))
    def heartbeat(self, gateway: str) -> None:
        mine = self.gateways[gateway].still_held(self.issued[gateway])
        self.gateways[gateway].renew(mine)
        for claim in mine:
            known = self.known[claim.job_id]
            if known.status == IN_PROGRESS:
                known.lease_until = self.now_s + LEASE_S

    @rule(gateway=st.sampled_from(GATEWAYS))
    def take_up_what_was_lost(self, gateway: str) -> None:
        lost = {
            name
            for name in self.with_status(IN_PROGRESS)
            if (self.known[name].lease_until or 0.0) < self.now_s
        }
        failed = set(self.gateways[gateway].recover())
        assert failed == {name for name in lost if self.known[name].failures + 1 >= MAX_FAILURES}
        for name in lost - failed:
            self.known[name].failures += 1
            self.waits_again(name)
        for name in failed:
            self.known[name].status = FAILED

    @rule(gateway=st.sampled_from(GATEWAYS))
    def expire(self, gateway: str) -> None:
        old = {
            name
            for name in self.with_status(QUEUED)
            if self.known[name].came_s < self.now_s - MAX_QUEUE_S
        }
        assert set(self.gateways[gateway].expire(MAX_QUEUE_S)) == old
        for name in old:
            self.known[name].status = FAILED

    @rule(held=claims, step=st.integers(0, 4))
    def progress(self, held: tuple[str, Claim], step: int) -> None:
        gateway, claim = held
        event = StageEvent(Stage.DENOISER, StageState.STEP, step, 4, 0.5)
        self.write(held, lambda: self.gateways[gateway].record(claim, event))

    @rule(held=claims)
    def finish(self, held: tuple[str, Claim]) -> None:
        gateway, claim = held
        if self.write(held, lambda: self.gateways[gateway].complete(claim)):
            self.known[claim.job_id].status = COMPLETED

    @rule(held=claims)
    def fail(self, held: tuple[str, Claim]) -> None:
        gateway, claim = held
        if self.write(held, lambda: self.gateways[gateway].fail(claim, "x", "y")):
            self.known[claim.job_id].status = FAILED

    @rule(held=claims)
    def release(self, held: tuple[str, Claim]) -> None:
        gateway, claim = held
        if self.write(held, lambda: self.gateways[gateway].release(claim)):
            self.waits_again(claim.job_id)

    @rule(
        held=claims,
        how=st.builds(Retry, st.sampled_from([1.0, LEASE_S]), st.booleans(), st.booleans()),
    )
    def retry(self, held: tuple[str, Claim], how: Retry) -> None:
        gateway, claim = held
        if self.write(held, lambda: self.gateways[gateway].retry(claim, how)):
            known = self.known[claim.job_id]
            known.failures += how.counted
            known.strikes += how.struck
            known.waits_until = self.now_s + how.delay_s
            self.waits_again(claim.job_id)

    @rule(held=claims)
    def keep_latents(self, held: tuple[str, Claim]) -> None:
        gateway, claim = held
        if self.write(held, lambda: self.gateways[gateway].note_latents(claim)):
            self.known[claim.job_id].denoised = True

    @rule(seconds=st.sampled_from([1.0, LEASE_S / 2, 2 * LEASE_S]))
    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds

    # Once is enough, as opening costs more than all else.
    @precondition(lambda self: self.count > 5 and not self.restarted)
    @rule()
    def restart(self) -> None:
        self.restarted = True
        self.store.close()
        type(self).engine = open_database(self.url)
        self.start()

    # What holds at all times

    @invariant()
    def no_job_is_lost_and_none_is_changed_by_somebody_else(self) -> None:
        rows = self.rows()
        assert rows.keys() == self.known.keys()
        for name, row in rows.items():
            known = self.known[name]
            assert (row.status, row.attempts) == (known.status, known.attempts), name
            assert (row.failures, row.strikes) == (known.failures, known.strikes), name
            # Latents that are kept are never lost again, so nothing is denoised twice.
            assert (row.latents_at is not None) == known.denoised
            if row.status in (QUEUED, IN_PROGRESS):
                assert row.owner == known.owner
            if row.status == IN_PROGRESS:
                assert row.progress >= known.progress
                known.progress = row.progress

    @invariant()
    def no_job_has_two_owners(self) -> None:
        holders: dict[str, int] = {}
        for gateway, claims in self.issued.items():
            for claim in self.gateways[gateway].still_held(claims):
                if self.known[claim.job_id].status == IN_PROGRESS:
                    holders[claim.job_id] = holders.get(claim.job_id, 0) + 1
        assert all(count == 1 for count in holders.values())
        assert holders.keys() == set(self.with_status(IN_PROGRESS))

    def write(self, held: tuple[str, Claim], act: Callable[[], None]) -> bool:
        """Lets a gateway write by a claim; whether it was still worth something."""
        gateway, claim = held
        known = self.known.get(claim.job_id)
        mine = (
            known is not None
            and (known.status, known.owner, known.attempts)
            == (IN_PROGRESS, gateway, claim.attempt)
        )  # fmt: skip
        if mine:
            act()
            return True
        before = self.columns(claim.job_id)
        with pytest.raises(LeaseLostError):
            act()
        assert self.columns(claim.job_id) == before
        return False

    def waits_again(self, name: str) -> None:
        known = self.known[name]
        known.status, known.owner, known.lease_until = QUEUED, None, None

    def with_status(self, status: str) -> list[str]:
        return [name for name, known in self.known.items() if known.status == status]

    def rows(self) -> dict[str, Job]:
        with Session(self.database, expire_on_commit=False) as session:
            return {job.id: job for job in session.scalars(select(Job))}

    def columns(self, name: str) -> dict[str, Any] | None:
        with self.database.connect() as connection:
            row = connection.execute(select(Job.__table__).where(Job.id == name)).first()
        return None if row is None else dict(row._mapping)


def test_jobs_keep_their_promises(database_url: str) -> None:
    machine = type("Machine", (JobMachine,), {"url": database_url})
    run_state_machine_as_test(machine, settings=RULES)
    machine.engine.dispose()
