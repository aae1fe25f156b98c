"""A request that is sent again makes no second video."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deployments.api.create_body import CreateBody, validate
from deployments.api.intent import intent_of, request_hash
from deployments.artifacts.objects import Objects
from deployments.artifacts.store import ArtifactStore
from deployments.errors import IdempotencyMismatchError, RepeatedError
from deployments.ids import JobIds
from deployments.jobs.database import open_database
from deployments.jobs.forecast import Forecast
from deployments.jobs.intake import Intake
from deployments.jobs.repeats import Accepted, Intent, Repeats
from deployments.jobs.store import JobStore
from deployments.jobs.tables import FAILED, Job
from deployments.keys.charge import Charge
from deployments.keys.rights import UNLIMITED
from deployments.messages import GenerateRequest
from model.errors import InvalidInputError
from model.types import SamplerSettings, VideoShape

KEY = Intent("mine", "hash")
RETRY = Intent(None, "hash", is_retry=True)


class Door:
    """What of a gateway takes in requests."""

    def __init__(self, url: str, folder: Path, *, window_s: float = 30.0) -> None:
        self.engine = open_database(url)
        self.store = JobStore(self.engine)
        self._made = 0
        self._repeats = Repeats(self.engine, window_s=window_s)
        self.objects = Objects(folder.as_uri())
        self._intake = Intake(
            self.store,
            ArtifactStore(self.objects),
            Forecast(self.engine, max_in_progress=lambda: 2, max_wait_s=None),
            max_jobs=lambda: 10_000,
            on_new=lambda: None,
        )

    async def post(self, intent: Intent, *, key_id: str = "") -> Accepted:
        return await self._repeats.once(key_id, intent, lambda: self.make(intent, key_id))

    async def make(self, intent: Intent, key_id: str) -> Job:
        self._made += 1
        job = row(f"video_{id(self)}_{self._made}")
        job.key_id, job.idempotency_key, job.request_hash = key_id, intent.key, intent.request_hash
        await self._intake.submit(job, inputs(job.id), Charge(UNLIMITED))
        return job


def row(name: str) -> Job:
    return Job(
        id=name,
        model="m",
        prompt="p",
        width=96,
        height=64,
        num_frames=9,
        seed="1",
        num_inference_steps=3,
    )


def inputs(job_id: str) -> GenerateRequest:
    return GenerateRequest(
        ids=JobIds(job_id),
        prompt="p",
        negative_prompt="n",
        image=np.zeros((4, 4, 3), np.uint8),
        camera=None,
        shape=VideoShape(width=96, height=64, num_frames=9),
        sampler=SamplerSettings(),
        seed=1,
        return_tensors=False,
    )


@pytest.fixture
def doors(database_url: str, tmp_path: Path) -> Iterator[list[Door]]:
    doors = [Door(database_url, tmp_path / "files") for _ in range(2)]
    yield doors
    for door in doors:
        door.store.close()


def test_a_thousand_requests_at_two_gateways_make_one_job(doors: list[Door]) -> None:
    async def storm() -> list[Accepted]:
        return await asyncio.gather(*(doors[n % 2].post(KEY) for n in range(1000)))

    accepted = asyncio.run(storm())
    assert len({answer.job.id for answer in accepted}) == 1
    assert sum(not answer.is_replay for answer in accepted) == 1
    assert sum(doors[0].store.count().values()) == 1
    assert {stored.name.split("/")[0] for stored in doors[0].objects.list()} == {accepted[0].job.id}


def test_the_loser_of_a_race_leaves_no_inputs(doors: list[Door]) -> None:
    async def race() -> None:
        await doors[0].make(KEY, "")
        await doors[1].make(KEY, "")

    with pytest.raises(RepeatedError):
        asyncio.run(race())
    assert len(list(doors[0].objects.list())) == 1


def test_the_key_is_the_owners_alone(doors: list[Door]) -> None:
    async def both() -> tuple[Accepted, Accepted]:
        return await doors[0].post(KEY, key_id="a"), await doors[0].post(KEY, key_id="b")

    first, second = asyncio.run(both())
    assert first.job.id != second.job.id
    assert not second.is_replay


def test_a_key_that_comes_with_another_request_is_refused(doors: list[Door]) -> None:
    async def both() -> None:
        await doors[0].post(KEY)
        await doors[1].post(replace(KEY, request_hash="other"))

    with pytest.raises(IdempotencyMismatchError, match="new key"):
        asyncio.run(both())


def test_a_deleted_job_frees_its_key(doors: list[Door]) -> None:
    async def again() -> Accepted:
        doors[0].store.delete((await doors[0].post(KEY)).job.id)
        return await doors[0].post(KEY)

    assert not asyncio.run(again()).is_replay


def test_a_marked_retry_finds_the_job_and_an_unmarked_one_makes_another(doors: list[Door]) -> None:
    async def three() -> list[Accepted]:
        once = await doors[0].post(replace(RETRY, is_retry=False))
        retried = await doors[1].post(RETRY)
        on_purpose = await doors[1].post(replace(RETRY, is_retry=False))
        return [once, retried, on_purpose]

    once, retried, on_purpose = asyncio.run(three())
    assert (retried.job.id, retried.is_replay) == (once.job.id, True)
    assert (on_purpose.job.id != once.job.id, on_purpose.is_replay) == (True, False)


def test_a_retry_waits_for_the_request_that_it_repeats(doors: list[Door]) -> None:
    async def both() -> list[Accepted]:
        first = asyncio.create_task(doors[0].post(replace(RETRY, is_retry=False)))
        await asyncio.sleep(0)  # being read
        return [await doors[0].post(RETRY), await first]

    retried, first = asyncio.run(both())
    assert (retried.job.id, retried.is_replay) == (first.job.id, True)


@pytest.mark.parametrize("case", ["too old", "failed", "switched off", "somebody else's", "other"])
def test_a_retry_finds_only_a_recent_live_job_of_its_owner(tmp_path: Path, case: str) -> None:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    door = Door(url, tmp_path / "files", window_s=0 if case == "switched off" else 30)
    old = row("old")
    old.request_hash = "other" if case == "other" else "hash"
    old.key_id = "a" if case == "somebody else's" else ""
    if case == "too old":
        old.created_at = 1.0
    if case == "failed":
        old.status = FAILED
    door.store.add(old)
    answer = asyncio.run(door.post(RETRY))
    door.store.close()
    assert not answer.is_replay


def test_what_was_asked_for_is_compared_not_how_it_was_spelled() -> None:
    def of(files: dict[str, bytes], **fields: object) -> str:
        return request_hash(CreateBody(validate({"prompt": "a house", **fields}), files))

    assert of({}) == of({}, fps=16) == of({}, fps="16") == of({}, seed=None)
    different = [of({}), of({}, seed=1), of({}, prompt="a boat"), of({"poses": b"1"})]
    different += [of({"poses": b"2"}), of({"intrinsics": b"1"})]
    assert len(set(different)) == len(different)


def test_headers_tell_a_retry_and_a_key() -> None:
    body = CreateBody(validate({"prompt": "a house"}), {})
    assert intent_of({"x-stainless-retry-count": "1"}, body).is_retry
    assert not intent_of({"x-stainless-retry-count": "0"}, body).is_retry
    assert not intent_of({"x-stainless-retry-count": "many"}, body).is_retry
    assert intent_of({"idempotency-key": "k-1"}, body).key == "k-1"
    for bad in ("", " ", "x" * 256, "schlüssel"):
        with pytest.raises(InvalidInputError, match="Idempotency-Key"):
            intent_of({"idempotency-key": bad}, body)
