"""Both clients against a real socket: what they send, how they try again, what they raise."""

import inspect
import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deployments.listeners import free_port
from lingbot_serve import AsyncClient, AsyncJob, Client, Job
from lingbot_serve.camera import dolly
from lingbot_serve.client.retries import RetryPolicy
from lingbot_serve.errors import (
    ApiError,
    AuthenticationError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    ServerUnreachableError,
    VideoFailedError,
    WaitTimeoutError,
)
from model.errors import InvalidInputError
from model.types import Solver
from tests.support.clients import client_of
from tests.support.scripted_server import ScriptedServer, scripted_server, video

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
QUICK = RetryPolicy(first_delay_s=0.001, max_delay_s=0.002, max_outage_retries=6)
IMAGE = EXAMPLES / "image.png"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as server:
        yield server


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest, server: ScriptedServer) -> Iterator[Any]:
    with client_of(request.param, server.url, api_key="secret", retries=QUICK) as client:
        yield client


def generate(client: Any, **options: Any) -> Any:
    return client.generate(image=IMAGE, prompt="a lake", **options)


def job_of(client: Any, server: ScriptedServer, **fields: object) -> Any:
    server.will_answer(video(**fields))
    return client.job("video_1")


def error_body(message: str = "no", **fields: object) -> dict[str, object]:
    return {"error": {"message": message, "type": "t", "param": None, "code": None} | fields}


def test_generate_sends_the_api_s_own_field_names(server: ScriptedServer, client: Any) -> None:
    server.will_answer(video(notes=["num_frames capped"]))
    options = {"sampler": Solver.DPMPP, "seed": 7, "return_tensors": True, "size": None}
    job = generate(client, camera=EXAMPLES / "camera", **options)
    assert job.video.notes == ("num_frames capped",)
    assert job.video.model_dump()["later_field"] == 1
    [asked] = server.asked
    assert asked.line == "POST /v1/videos"
    assert asked.headers["authorization"] == "Bearer secret"
    assert asked.headers["x-lingbot-origin"] == "client"
    assert b'name="prompt"\r\n\r\na lake' in asked.body
    assert b'name="sampler"\r\n\r\ndpm++' in asked.body
    assert b'name="seed"\r\n\r\n7' in asked.body
    assert b'name="return_tensors"\r\n\r\ntrue' in asked.body
    assert b'name="input_reference"; filename="image.png"\r\nContent-Type: image/png' in asked.body
    assert b'name="poses"; filename="poses.npy"' in asked.body
    assert b"num_frames" not in asked.body
    assert b"size" not in asked.body


@pytest.mark.parametrize(
    "image", [str(IMAGE), IMAGE.read_bytes(), Image.new("RGB", (16, 16))], ids=type
)
def test_images_and_arrays_arrive_as_files(
    server: ScriptedServer, client: Any, image: object
) -> None:
    server.will_answer(video())
    path = dolly(5)
    client.generate(image=image, prompt="a", camera=path)
    [asked] = server.asked
    assert b"\x89PNG" in asked.body
    poses = asked.body[asked.body.index(b"\x93NUMPY") :]
    np.testing.assert_array_equal(np.load(io.BytesIO(poses)), path.poses)


def test_half_a_camera_is_refused_before_anything_is_sent(client: Any, tmp_path: Path) -> None:
    (tmp_path / "poses.npy").touch()
    with pytest.raises(InvalidInputError, match=r"lacks intrinsics\.npy"):
        generate(client, camera=tmp_path)


@pytest.mark.parametrize("status", [0, 408, 429, 500, 502, 503, 504])
def test_a_call_is_made_again_under_the_same_key(
    server: ScriptedServer, client: Any, status: int
) -> None:
    if status:
        server.will_answer(error_body(), status)
    else:
        server.will_hang_up()
    server.will_answer(video())
    assert generate(client).id == "video_1"
    first, second = server.asked
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.body == second.body


def test_each_call_has_a_key_of_its_own_unless_one_is_given(
    server: ScriptedServer, client: Any
) -> None:
    for _ in range(3):
        server.will_answer(video())
    generate(client)
    generate(client)
    generate(client, idempotency_key="mine")
    first, second, third = (asked.headers["idempotency-key"] for asked in server.asked)
    assert first != second
    assert third == "mine"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 501])
def test_what_would_be_refused_again_is_sent_once(
    server: ScriptedServer, client: Any, status: int
) -> None:
    server.will_answer(error_body(), status)
    with pytest.raises(ApiError):
        generate(client)


def test_a_conflict_that_the_server_calls_passing_is_tried_again(
    server: ScriptedServer, client: Any
) -> None:
    server.will_answer(error_body(), 409, retry_after_ms="1")
    server.will_answer(video())
    assert generate(client).id == "video_1"


def test_retries_end(server: ScriptedServer, client: Any) -> None:
    for _ in range(QUICK.max_retries + 1):
        server.will_answer(error_body("the queue is full", code="queue_full"), 429)
    with pytest.raises(RateLimitError, match="the queue is full") as caught:
        generate(client)
    assert caught.value.code == "queue_full"


def test_a_long_wait_is_the_caller_s_to_decide(server: ScriptedServer, client: Any) -> None:
    server.will_answer(error_body(), 429, retry_after="3600", x_request_id="r-1")
    with pytest.raises(RateLimitError) as caught:
        generate(client)
    assert (caught.value.retry_after_s, caught.value.request_id) == (3600, "r-1")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequestError),
        (401, AuthenticationError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (409, ConflictError),
        (413, InvalidRequestError),
        (422, InvalidRequestError),
        (501, ServerError),
    ],
)
def test_errors_are_typed(
    server: ScriptedServer, client: Any, status: int, kind: type[ApiError]
) -> None:
    body = error_body("must be 4n+1", param="num_frames", code="invalid_value")
    server.will_answer(body, status, x_request_id="r-2")
    with pytest.raises(kind, match=r"^num_frames: must be 4n\+1$") as caught:
        client.job("video_1")
    error = caught.value
    assert (error.status_code, error.param, error.code) == (status, "num_frames", "invalid_value")
    assert error.request_id == "r-2"


def test_the_answer_of_a_proxy_is_shown_as_it_is(server: ScriptedServer, client: Any) -> None:
    server.will_send(b"<html>Log in</html>")
    with pytest.raises(ApiError, match="HTTP 200: <html>Log in</html>"):
        client.job("video_1")


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_nobody_listens(kind: str) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with (
        client_of(kind, url, retries=QUICK) as client,
        pytest.raises(ServerUnreachableError, match=f"no answer from {url}: "),
    ):
        client.job("video_1")


def test_where_the_server_is_may_come_from_the_environment(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINGBOT_BASE_URL", f"{server.url}/v1/")
    monkeypatch.setenv("LINGBOT_API_KEY", "from-outside")
    # A proxy is not asked for this machine.
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    server.will_answer(video())
    with Client() as client:
        assert client.job("video_1").status == "queued"
    assert server.lines == ["GET /v1/videos/video_1"]
    assert server.asked[0].headers["authorization"] == "Bearer from-outside"


def test_jobs_are_read_page_by_page(server: ScriptedServer, client: Any) -> None:
    pages = [[video(id=f"video_{i}") for i in range(100)], [video(id="video_100")]]
    server.will_answer({"data": pages[0], "has_more": True})
    server.will_answer({"data": pages[1], "has_more": False})
    ids = [job.id for job in client.jobs(order="asc", after="video_x")]
    assert ids == [f"video_{i}" for i in range(101)]
    assert server.lines == [
        "GET /v1/videos?limit=100&order=asc&after=video_x",
        "GET /v1/videos?limit=100&order=asc&after=video_99",
    ]


def test_no_more_jobs_are_read_than_asked_for(server: ScriptedServer, client: Any) -> None:
    server.will_answer({"data": [video(), video(id="video_2")], "has_more": True})
    assert len(list(client.jobs(limit=2))) == 2
    assert list(client.jobs(limit=0)) == []
    assert server.lines == ["GET /v1/videos?limit=2&order=desc"]


def test_wait_asks_until_it_is_over(server: ScriptedServer, client: Any) -> None:
    job = job_of(client, server)
    for status in ("queued", "in_progress"):
        server.will_answer(video(status=status), openai_poll_after_ms="1")
    server.will_hang_up()
    server.will_answer(video(status="completed"))
    assert job.wait(timeout_s=20).status == "completed"
    assert job.status == "completed"


def test_wait_bears_with_an_outage(server: ScriptedServer, client: Any) -> None:
    job = job_of(client, server)
    for _ in range(QUICK.max_outage_retries):
        server.will_answer(error_body(), 503)
    server.will_answer(video(status="completed"))
    assert job.wait().status == "completed"


def test_a_failed_video_raises_with_its_code(server: ScriptedServer, client: Any) -> None:
    job = job_of(client, server)
    server.will_answer(video(status="failed", error={"code": "rank_died", "message": "rank 1"}))
    with pytest.raises(VideoFailedError, match=r"^rank 1 \(rank_died\)$"):
        job.wait()
    assert job.video.error.code == "rank_died"


def test_wait_has_an_end(server: ScriptedServer, client: Any) -> None:
    job = job_of(client, server, status="in_progress", stage="denoiser")
    with pytest.raises(WaitTimeoutError, match="video_1 is in_progress at denoiser after 0 s"):
        job.wait(timeout_s=0)


def test_wait_shows_progress(
    server: ScriptedServer, client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    job = job_of(client, server, queue_position=3, eta_seconds=100.0)
    server.will_answer(
        video(status="in_progress", stage="denoiser", step=1, total_steps=8, eta_seconds=40.0),
        openai_poll_after_ms="1",
    )
    server.will_answer(video(status="completed", stage_durations={"denoiser": 2.5}))
    job.wait(progress=True)
    assert capsys.readouterr().err.splitlines() == [
        "queued: place 3, about 1 min 40 s left",
        "denoiser: step 1 of 8, about 40 s left",
        "denoiser: finished in 2.50 s",
    ]


def test_cancel_and_delete(server: ScriptedServer, client: Any) -> None:
    job = job_of(client, server)
    cancelled = {"code": "cancelled", "message": "cancelled"}
    server.will_answer(video(status="failed", state_detail="cancelled", error=cancelled))
    assert job.cancel().state == "cancelled"
    server.will_answer({"id": "video_1", "deleted": True})
    job.delete()
    assert server.lines[1:] == ["POST /v1/videos/video_1/cancel", "DELETE /v1/videos/video_1"]
    assert server.asked[1].headers["idempotency-key"]


def test_make_writes_the_video_of_one_call(
    server: ScriptedServer, client: Any, tmp_path: Path
) -> None:
    server.will_send(b"an mp4", x_video_id="video_1")
    server.will_answer(video(status="completed"))
    job = client.make(tmp_path / "clip.mp4", image=IMAGE, prompt="a lake")
    assert job.status == "completed"
    assert (tmp_path / "clip.mp4").read_bytes() == b"an mp4"
    assert server.lines[0] == "POST /v1/videos/sync"


@pytest.mark.parametrize(("blocking", "awaited"), [(Client, AsyncClient), (Job, AsyncJob)])
def test_both_clients_have_the_same_methods(blocking: type, awaited: type) -> None:
    assert public_methods(blocking) == public_methods(awaited)


def public_methods(kind: type) -> dict[str, list[tuple[str, object, object]]]:
    """Names of methods and properties, with their parameters and defaults."""
    names = [name for name in vars(kind) if not name.startswith("_")]
    callables: dict[str, Callable[..., Any]] = {
        name: getattr(kind, name) for name in names if callable(getattr(kind, name))
    }
    found = {name: parameters(method) for name, method in callables.items()}
    return found | {name: [] for name in names if name not in found} | {"": parameters(kind)}


def parameters(method: Callable[..., Any]) -> list[tuple[str, object, object]]:
    listed = inspect.signature(method).parameters.values()
    # A job is made by its client, over connections of its kind.
    return [(p.name, p.kind, p.default) for p in listed if p.name != "transport"]


def test_the_client_is_light() -> None:
    heavy = (
        "torch ray fastapi starlette diffusers transformers scipy sqlalchemy deployments cluster"
    )
    program = f"import sys, lingbot_serve; print([m for m in {heavy.split()} if m in sys.modules])"
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
