"""The events of a video, from its row to the wire."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event
from starlette.testclient import TestClient

from deployments.api.events import Mark, events_since
from deployments.api.routes import build_api
from deployments.api.service import VideoService
from deployments.api.videos import poll_after_ms
from deployments.gateway_config import GatewayConfig
from deployments.jobs.database import open_database
from deployments.jobs.outlook import Outlook
from deployments.jobs.store import JobStore
from deployments.jobs.tables import COMPLETED, FAILED, IN_PROGRESS, Job
from deployments.jobs.watch import Sighting, Watch

Event = dict[str, Any]


def job(name: str = "video_1", **values: Any) -> Job:
    shape = {"width": 96, "height": 64, "num_frames": 9, "seed": "1", "num_inference_steps": 3}
    state = {"status": "queued", "attempts": 0, "progress": 0, "notes": [], "stage_durations": {}}
    state |= {"artifacts": {}, "record": {}, "created_at": 1.0, "priority": "normal"}
    return Job(**{"id": name, "model": "m", "prompt": "p", **shape, **state, **values})


def denoising(step: int, *, attempts: int = 1) -> Sighting:
    values = {"stage": "denoiser", "step": step, "total_steps": 3, "progress": 30 * step}
    return Sighting(
        job(status=IN_PROGRESS, attempts=attempts, **values), Outlook(None, 9.0 - 3 * step)
    )


def told(mark: str | None, sighting: Sighting) -> list[tuple[str | None, str | None]]:
    return [(e.event, e.id) for e in events_since(Mark.parse(mark), sighting)]


def test_a_new_client_hears_where_the_video_stands() -> None:
    assert told(None, Sighting(job(), Outlook(2, 60.0))) == [("queued", "0-queued-2")]
    assert told(None, denoising(1)) == [("stage", "1-denoiser"), ("step", "1-denoiser-1")]
    assert told(None, Sighting(job(status=COMPLETED, attempts=1))) == [("completed", "1-completed")]


def test_a_client_that_comes_back_hears_only_what_is_new() -> None:
    assert told("1-denoiser-1", denoising(1)) == []
    assert told("1-denoiser-1", denoising(3)) == [("step", "1-denoiser-3")]
    assert told("1-vae_encoder-0", denoising(0))[0] == ("stage", "1-denoiser")
    assert told("0-queued-2", Sighting(job(), Outlook(1))) == [("queued", "0-queued-1")]


def test_a_video_that_starts_anew_tells_its_stages_again() -> None:
    assert told("1-denoiser-1", denoising(1, attempts=2))[0] == ("stage", "2-denoiser")


@pytest.mark.parametrize("mark", ["", "nonsense", "1-denoiser-1\n", "x" * 1000, "9" * 10 + "-a"])
def test_an_unknown_last_event_id_is_a_new_client(mark: str) -> None:
    assert told(mark, denoising(1)) == told(None, denoising(1))


def test_what_a_step_tells() -> None:
    [step] = events_since(Mark(1, "denoiser", 0), denoising(1))
    assert step.data == {
        "stage": "denoiser",
        "step": 1,
        "total_steps": 3,
        "progress": 30,
        "eta_seconds": 6.0,
    }


def test_polls_follow_the_estimate_within_bounds() -> None:
    assert [poll_after_ms(s) for s in (None, 0.0, 10.0, 60.0, 3600.0)] == [
        500,
        500,
        500,
        3000,
        10_000,
    ]


class Gateway:
    """A real service and its application, whose jobs are moved by hand."""

    def __init__(self, data_dir: Path, **events: Any) -> None:
        config = GatewayConfig.model_validate({"data_dir": data_dir, "events": events})
        self.service = VideoService(config)
        self.store = JobStore(open_database(config.store_url()))
        self.client = TestClient(build_api(self.service))

    def events(self, last_event_id: str | None = None, *, video_id: str = "video_1") -> list[Event]:
        headers = {} if last_event_id is None else {"last-event-id": last_event_id}
        answer = self.client.get(f"/v1/videos/{video_id}/events", headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"].startswith("text/event-stream")
        return list(_parse(answer.text))

    def close(self) -> None:
        self.store.close()
        self.service.close()


def _parse(text: str) -> Iterator[Event]:
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[0] != ":")
        if "event" in fields:
            yield {**fields, "data": json.loads(fields["data"])}


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    made: list[Gateway] = []

    def build(**events: Any) -> Gateway:
        made.append(Gateway(tmp_path, **events))
        return made[-1]

    yield build
    for gateway in made:
        gateway.close()


def test_a_stream_ends_with_the_video(make: Callable[..., Gateway]) -> None:
    gateway = make()
    gateway.store.add(job())
    heard: list[Event] = []
    stream = threading.Thread(target=lambda: heard.extend(gateway.events()))
    stream.start()
    while not gateway.service.watch.is_watched("video_1"):
        time.sleep(0.01)
    gateway.store.cancel("video_1")
    stream.join(timeout=60)
    assert [event["event"] for event in heard][-1] == "failed"
    assert heard[-1]["data"]["state_detail"] == "cancelled"
    assert heard[-1]["data"]["id"] == "video_1"
    assert all(event["id"] for event in heard)
    while gateway.service.watch.is_watched("video_1"):
        time.sleep(0.01)


def test_a_video_that_is_over_is_told_once(make: Callable[..., Gateway]) -> None:
    gateway = make()
    gateway.store.add(job(status=FAILED, error_code="rank_died", error_message="rank 1 died"))
    [only] = gateway.events()
    assert (only["event"], only["id"]) == ("failed", "0-failed")
    headers = {"last-event-id": only["id"]}
    again = gateway.client.get("/v1/videos/video_1/events", headers=headers)
    assert (again.status_code, again.content) == (204, b"")


def test_a_stream_has_an_end_and_is_resumed_elsewhere(make: Callable[..., Gateway]) -> None:
    first, second = make(max_stream_s=0.001), make()
    first.store.add(job(status=IN_PROGRESS, attempts=1, stage="denoiser", step=1, total_steps=3))
    heard = first.events()
    assert [event["event"] for event in heard] == ["stage", "step"]
    first.store.cancel("video_1")
    assert [event["event"] for event in second.events(heard[-1]["id"])] == ["failed"]


def test_a_deleted_video_ends_its_stream(make: Callable[..., Gateway]) -> None:
    gateway = make()
    gateway.store.add(job())
    heard: list[Event] = []
    stream = threading.Thread(target=lambda: heard.extend(gateway.events()))
    stream.start()
    while not gateway.service.watch.is_watched("video_1"):
        time.sleep(0.01)
    gateway.store.delete("video_1")
    stream.join(timeout=60)
    assert heard[-1]["event"] == "deleted"
    assert gateway.client.get("/v1/videos/video_1/events").status_code == 404


def test_a_gateway_that_stops_ends_its_streams(make: Callable[..., Gateway]) -> None:
    gateway = make()
    gateway.store.add(job())
    gateway.service.watch.close()
    assert gateway.events() == []


def test_streams_are_limited(make: Callable[..., Gateway]) -> None:
    gateway = make(max_streams=1)
    gateway.store.add(job())
    stream = threading.Thread(target=gateway.events)
    stream.start()
    while not gateway.service.watch.is_watched("video_1"):
        time.sleep(0.01)
    refused = gateway.client.get("/v1/videos/video_1/events")
    gateway.store.cancel("video_1")
    stream.join(timeout=60)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_streams")
    assert refused.headers["retry-after"]


def test_many_watchers_cost_one_look(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    store = JobStore(engine)
    for name in ("a", "b"):
        store.add(job(name))

    async def sightings_of(number: int) -> list[str]:
        watch = Watch(engine, lambda _jobs: {}, max_watchers=number)

        async def first(name: str) -> None:
            async for _ in watch.sightings(name):
                return

        with _statements(engine) as statements:
            await asyncio.gather(*(first("ab"[n % 2]) for n in range(number)))
        return list(statements)

    few, many = asyncio.run(sightings_of(2)), asyncio.run(sightings_of(200))
    store.close()
    assert len(few) == len(many) == 1


@contextmanager
def _statements(engine: Engine) -> Iterator[list[str]]:
    """The statements that a database is sent meanwhile."""
    sent: list[str] = []

    def note(*arguments: Any) -> None:
        sent.append(arguments[2])

    event.listen(engine, "before_cursor_execute", note)
    yield sent
    event.remove(engine, "before_cursor_execute", note)
