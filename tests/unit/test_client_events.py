"""Events of a job over connections that break."""

from collections.abc import Iterator
from typing import Any

import pytest

from lingbot_serve.client.retries import RetryPolicy
from lingbot_serve.errors import ApiError, NotFoundError, ServerUnreachableError
from tests.support.clients import client_of
from tests.support.scripted_server import Reply, ScriptedServer, scripted_server, video

QUICK = RetryPolicy(first_delay_s=0.001, max_delay_s=0.002, max_outage_retries=4)
STEP = {"stage": "denoiser", "step": 1, "total_steps": 8, "progress": 20, "eta_seconds": 9.5}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as server:
        yield server


@pytest.fixture(params=["sync", "async"])
def job(request: pytest.FixtureRequest, server: ScriptedServer) -> Iterator[Any]:
    with client_of(request.param, server.url, retries=QUICK) as client:
        server.will_answer(video())
        yield client.job("video_1")


def test_events_come_in_order_over_broken_connections(server: ScriptedServer, job: Any) -> None:
    queued = {"queue_position": 2, "eta_seconds": 30.0}
    server.will_stream(("queued", "1", queued), ("stage", "2", {"stage": "denoiser"}), cut=True)
    server.will_hang_up()
    server.will_answer({}, 503)
    server.will_send(b"retry: 1\n\n", content_type="text/event-stream")  # the server ended it
    server.will_stream(("step", "3", STEP), ("completed", "4", video(status="completed")))
    events = list(job.events())
    assert [(event.event, event.id) for event in events] == [
        ("queued", "1"),
        ("stage", "2"),
        ("step", "3"),
        ("completed", "4"),
    ]
    assert (events[0].queue_position, events[0].eta_seconds) == (2, 30.0)
    assert (events[2].stage, events[2].step, events[2].total_steps) == ("denoiser", 1, 8)
    assert events[3].video.status == job.status == "completed"
    asked = [asked.headers.get("last-event-id") for asked in server.asked[1:]]
    assert asked == [None, "2", "2", "2", "2"]
    assert server.asked[1].headers["accept"] == "text/event-stream"


def test_events_go_on_after_the_one_that_is_known(server: ScriptedServer, job: Any) -> None:
    server.will_stream(("failed", "9", video(status="failed")))
    assert [event.event for event in job.events(last_event_id="8")] == ["failed"]
    assert server.asked[1].headers["last-event-id"] == "8"


def test_events_of_newer_servers_are_passed_over(server: ScriptedServer, job: Any) -> None:
    server.will_stream(("preview", "1", {}), ("completed", "2", video(status="completed")))
    assert [event.event for event in job.events()] == ["completed"]


def test_there_is_nothing_after_the_end(server: ScriptedServer, job: Any) -> None:
    server.replies.append(Reply(status=204))
    assert list(job.events(last_event_id="1-completed")) == []


def test_a_job_that_is_deleted_meanwhile(server: ScriptedServer, job: Any) -> None:
    server.will_stream(("deleted", "deleted", {"id": "video_1", "deleted": True}))
    with pytest.raises(NotFoundError, match="video_1 was deleted"):
        list(job.events())


def test_a_deleted_job_has_no_events(server: ScriptedServer, job: Any) -> None:
    server.will_stream(("queued", "1", {"queue_position": 1}))
    server.will_answer({"error": {"message": "no video has the id video_1"}}, 404)
    with pytest.raises(NotFoundError):
        list(job.events())


def test_an_outage_has_an_end(server: ScriptedServer, job: Any) -> None:
    for _ in range(QUICK.max_outage_retries + 1):
        server.will_hang_up()
    with pytest.raises(ServerUnreachableError):
        list(job.events())


def test_connections_that_break_at_once_have_an_end(server: ScriptedServer, job: Any) -> None:
    for _ in range(QUICK.max_outage_retries + 1):
        server.will_stream(cut=True)
    with pytest.raises(ServerUnreachableError):
        list(job.events())


def test_what_sends_no_events_is_told_apart(server: ScriptedServer, job: Any) -> None:
    server.will_answer({"hello": 1}, content_type="application/json")
    with pytest.raises(ApiError, match="no events of video_1"):
        list(job.events())
