"""The job store, over a real SQLite file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.api.video_body import VideoBody
from deployments.errors import JobNotFoundError
from deployments.jobs.database import open_database
from deployments.jobs.forecast import Forecast
from deployments.jobs.progress import percent
from deployments.jobs.store import JobStore
from deployments.jobs.tables import FAILED, QUEUED, Job
from deployments.messages import Stage, StageEvent, StageState


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    store = JobStore(open_database(f"sqlite:///{tmp_path / 'jobs.sqlite'}"))
    yield store
    store.close()


def job(name: str, *, key_id: str = "") -> Job:
    return Job(
        id=name,
        model="m",
        prompt="p",
        width=96,
        height=64,
        num_frames=17,
        seed=str(2**63 + 5),
        num_inference_steps=3,
        key_id=key_id,
    )


def event(stage: Stage, state: StageState, index: int, total: int) -> StageEvent:
    return StageEvent(stage, state, index, total, 1.5)


def test_the_api_shows_a_failed_job(store: JobStore) -> None:
    failed = job("a")
    failed.status, failed.error_code, failed.error_message = FAILED, "rank_died", "rank 1 died"
    store.add(failed)
    video = VideoBody.of(store.get("a"))
    assert video.status == FAILED
    assert video.error is not None
    assert (video.error.code, video.error.message) == ("rank_died", "rank 1 died")
    assert (video.seed, video.seconds, video.size) == (2**63 + 5, "1", "96x64")


@pytest.mark.parametrize(
    ("code", "state"),
    [("cancelled", "cancelled"), ("deadline_exceeded", "expired"), ("rank_died", "failed")],
)
def test_ends_that_stock_clients_know_as_failed(store: JobStore, code: str, state: str) -> None:
    ended = job("a")
    ended.status, ended.error_code = FAILED, code
    store.add(ended)
    video = VideoBody.of(store.get("a"))
    assert (video.status, video.state_detail) == ("failed", state)


def test_jobs_that_wait_know_their_place(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'queue.sqlite'}")
    store = JobStore(engine)
    forecast = Forecast(engine, max_in_progress=lambda: 4, max_wait_s=None)
    for name in "abc":
        store.add(job(name))
    store.cancel("a")
    jobs = [store.get(name) for name in "abc"]
    places = {name: outlook.queue_position for name, outlook in forecast.of(jobs).items()}
    store.close()
    assert places == {"b": 1, "c": 2}


def test_pages_follow_the_order_of_creation(store: JobStore) -> None:
    for name in "abcde":
        store.add(job(name))
    newest, more = store.page(key_id="", after=None, limit=2, newest_first=True)
    assert ([j.id for j in newest], more) == (["e", "d"], True)
    rest, more = store.page(key_id="", after="d", limit=3, newest_first=True)
    assert ([j.id for j in rest], more) == (["c", "b", "a"], False)
    oldest, _ = store.page(key_id="", after="b", limit=9, newest_first=False)
    assert [j.id for j in oldest] == ["c", "d", "e"]


def test_another_owners_job_is_not_found(store: JobStore) -> None:
    store.add(job("mine", key_id="alice"))
    assert store.get("mine", key_id="alice").id == store.get("mine").id == "mine"
    with pytest.raises(JobNotFoundError):
        store.get("mine", key_id="bob")
    assert store.page(key_id="bob", after=None, limit=9, newest_first=True) == ([], False)
    with pytest.raises(JobNotFoundError):
        store.page(key_id="bob", after="mine", limit=9, newest_first=True)


def test_a_deleted_job_is_gone(store: JobStore) -> None:
    store.add(job("a"))
    store.delete("a")
    for call in (store.get, store.delete):
        with pytest.raises(JobNotFoundError, match="'a'"):
            call("a")


def test_unfinished_jobs_are_counted(store: JobStore) -> None:
    for name in "abc":
        store.add(job(name))
    assert store.cancel("b")
    assert store.num_unfinished() == 2
    assert store.count() == {QUEUED: 2}


def test_progress_rises_through_the_stages() -> None:
    steps = [event(Stage.DENOISER, StageState.STEP, n, 70) for n in range(71)]
    decodes = [event(Stage.VAE_DECODER, StageState.STEP, n, 21) for n in range(22)]
    values = [percent(e) for e in [event(Stage.VAE_ENCODER, StageState.STARTED, 0, 1), *steps]]
    values += [percent(e) for e in decodes]
    assert values == sorted(values)
    assert (values[0], values[-1]) == (0, 99)
