"""The job store, over a real SQLite file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.errors import JobNotFoundError
from deployments.jobs import COMPLETED, FAILED, IN_PROGRESS, QUEUED, Job, JobStore
from deployments.messages import Stage, StageEvent, StageState
from deployments.progress import percent
from deployments.schema import VideoBody


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    store = JobStore(f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    yield store
    store.close()


def job(name: str) -> Job:
    return Job(
        id=name,
        model="m",
        prompt="p",
        width=96,
        height=64,
        num_frames=17,
        seed=str(2**63 + 5),
        num_inference_steps=3,
    )


def event(stage: Stage, state: StageState, index: int, total: int) -> StageEvent:
    return StageEvent(stage, state, index, total, 1.5)


def test_a_job_lives_through_its_states(store: JobStore) -> None:
    store.add(job("a"))
    assert store.get("a").status == QUEUED
    store.start("a")
    store.record("a", event(Stage.DENOISER, StageState.STEP, 2, 4))
    running = store.get("a")
    assert (running.status, running.stage, running.step) == (IN_PROGRESS, "denoiser", 2)
    assert running.progress == 47
    store.record("a", event(Stage.TEXT_ENCODER, StageState.FINISHED, 1, 1))
    assert store.get("a").progress == 47
    assert store.get("a").stage_durations == {"text_encoder": 1.5}
    store.complete("a")
    assert (store.get("a").status, store.get("a").progress) == (COMPLETED, 100)


def test_the_api_shows_a_failed_job(store: JobStore) -> None:
    store.add(job("a"))
    store.fail("a", "rank_died", "rank 1 died")
    video = VideoBody.of(store.get("a"))
    assert video.status == FAILED
    assert video.error is not None
    assert (video.error.code, video.error.message) == ("rank_died", "rank 1 died")
    assert (video.seed, video.seconds, video.size) == (2**63 + 5, "1", "96x64")


def test_pages_follow_the_order_of_creation(store: JobStore) -> None:
    for name in "abcde":
        store.add(job(name))
    newest, more = store.page(after=None, limit=2, newest_first=True)
    assert ([j.id for j in newest], more) == (["e", "d"], True)
    rest, more = store.page(after="d", limit=3, newest_first=True)
    assert ([j.id for j in rest], more) == (["c", "b", "a"], False)
    oldest, _ = store.page(after="b", limit=9, newest_first=False)
    assert [j.id for j in oldest] == ["c", "d", "e"]


def test_a_deleted_job_is_gone(store: JobStore) -> None:
    store.add(job("a"))
    store.delete("a")
    for call in (store.get, store.delete, store.start):
        with pytest.raises(JobNotFoundError, match="'a'"):
            call("a")


def test_another_store_finds_what_was_left(store: JobStore, tmp_path: Path) -> None:
    store.add(job("waiting"))
    store.add(job("begun"))
    store.start("begun")
    again = JobStore(f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    assert [j.id for j in again.with_status(QUEUED)] == ["waiting"]
    assert [j.id for j in again.with_status(IN_PROGRESS)] == ["begun"]
    assert again.count() == {QUEUED: 1, IN_PROGRESS: 1}
    again.close()


def test_progress_rises_through_the_stages() -> None:
    steps = [event(Stage.DENOISER, StageState.STEP, n, 70) for n in range(71)]
    decodes = [event(Stage.VAE_DECODER, StageState.STEP, n, 21) for n in range(22)]
    values = [percent(e) for e in [event(Stage.VAE_ENCODER, StageState.STARTED, 0, 1), *steps]]
    values += [percent(e) for e in decodes]
    assert values == sorted(values)
    assert (values[0], values[-1]) == (0, 99)
