"""The client against a real socket: what it sends, how it polls, and what it makes of errors."""

import io
import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rich.console import Console

from lingbot_serve.client import CameraFiles, Video, VideoClient, VideoOptions, VideoRequest
from lingbot_serve.errors import ApiError, ServerUnreachableError, VideoFailedError
from lingbot_serve.progress import StageLines, progress_view
from lingbot_serve.settings import free_port
from model.types import Solver

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
Reply = tuple[int, dict[str, str], bytes]


class ScriptedServer(ThreadingHTTPServer):
    """Answers each request with the next reply of a list, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies: list[Reply] = []
        self.requests: list[tuple[str, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def will_answer(self, body: object, status: int = 200, **headers: str) -> None:
        self.replies.append((status, headers, json.dumps(body).encode()))


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedServer

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        self.server.requests.append((f"{self.command} {self.path}", body))
        status, headers, reply = self.server.replies.pop(0)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    do_GET = do_POST = do_DELETE = _answer

    def log_message(self, *_: object) -> None:
        """Keeps the tests' output clean."""


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def video(**fields: object) -> dict[str, object]:
    return {"id": "video_1", "object": "video", "status": "queued", "later_field": 1} | fields


def test_create_sends_the_api_s_own_field_names(server: ScriptedServer) -> None:
    server.will_answer(video(notes=["num_frames capped"]))
    camera = CameraFiles(EXAMPLES / "camera/poses.npy", EXAMPLES / "camera/intrinsics.npy")
    options = VideoOptions(sampler=Solver.DPMPP, seed=7, return_tensors=True)
    with VideoClient(server.url) as client:
        request = VideoRequest("a lake", EXAMPLES / "image.png", camera, options)
        assert client.create(request).notes == ("num_frames capped",)
    [(line, body)] = server.requests
    assert line == "POST /v1/videos"
    for part in (b'name="prompt"\r\n\r\na lake', b'name="sampler"\r\n\r\ndpm++'):
        assert part in body
    assert b'name="seed"\r\n\r\n7' in body
    assert b'name="return_tensors"\r\n\r\ntrue' in body
    assert b'name="input_reference"; filename="image.png"\r\nContent-Type: image/png' in body
    assert b'name="poses"; filename="poses.npy"' in body
    assert b"num_frames" not in body


def test_watch_polls_at_the_servers_pace(server: ScriptedServer) -> None:
    server.will_answer(video(), openai_poll_after_ms="300")
    server.will_answer(video(status="completed"))
    began = time.monotonic()
    with VideoClient(server.url) as client:
        seen = [item.status for item in client.watch("video_1")]
    assert seen == ["queued", "completed"]
    assert 0.3 <= time.monotonic() - began < 0.9


def test_a_proxy_is_not_asked_for_this_machine(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    server.will_answer(video(status="queued"))
    with VideoClient(server.url) as client:
        assert client.retrieve("v").status == "queued"


def test_failed_video_raises_with_its_code(server: ScriptedServer) -> None:
    server.will_answer(video(status="failed", error={"code": "rank_died", "message": "rank 1"}))
    with VideoClient(server.url) as client, pytest.raises(VideoFailedError) as caught:
        client.wait("video_1")
    assert str(caught.value) == "rank 1 (rank_died)"


def test_refusal_names_field_and_remedy(server: ScriptedServer) -> None:
    message = "num_frames: must be 4n+1, not 16; send 13 or 17"
    error = {"message": message, "type": "invalid_request_error", "param": "num_frames"}
    server.will_answer({"error": error | {"code": "invalid_value"}}, status=400)
    with VideoClient(server.url) as client, pytest.raises(ApiError) as caught:
        client.retrieve("video_1")
    assert str(caught.value) == message
    assert caught.value.is_callers_fault


def test_answer_of_a_proxy_is_shown_as_it_is(server: ScriptedServer, tmp_path: Path) -> None:
    server.replies.append((502, {}, b"<html>Bad Gateway</html>"))
    with VideoClient(server.url) as client, pytest.raises(ApiError) as caught:
        client.download("video_1", tmp_path / "a.mp4")
    assert str(caught.value) == "HTTP 502: <html>Bad Gateway</html>"
    assert not caught.value.is_callers_fault
    assert list(tmp_path.iterdir()) == []


def test_nobody_listens() -> None:
    with (
        VideoClient(f"http://127.0.0.1:{free_port()}") as client,
        pytest.raises(ServerUnreachableError, match="no answer from"),
    ):
        client.retrieve("video_1")


def test_lines_say_each_thing_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = StageLines(Console(highlight=False))
    queued = Video(id="video_1", status="queued")
    step = {"stage": "denoiser", "step": 1, "total_steps": 8}
    running = Video.model_validate(video(status="in_progress", **step))
    done = Video.model_validate(video(status="completed", stage_durations={"denoiser": 2.5}))
    for item in (queued, running, running, done, done):
        lines.show(item)
    assert capsys.readouterr().out.splitlines() == [
        "denoiser: step 1 of 8",
        "denoiser: finished in 2.50 s",
    ]


def test_bars_show_each_stage_with_its_steps_and_seconds() -> None:
    terminal = Console(force_terminal=True, width=100, no_color=True, file=io.StringIO())
    running = video(status="in_progress", stage="denoiser", step=1, total_steps=8)
    done = video(status="completed", stage="vae_decoder", step=4, total_steps=5)
    with progress_view(terminal) as view:
        view.show(Video.model_validate(running | {"stage_durations": {"text_encoder": 0.25}}))
        durations = {"text_encoder": 0.25, "denoiser": 2.5, "vae_decoder": 1.0}
        view.show(Video.model_validate(done | {"stage_durations": durations}))
    assert isinstance(terminal.file, io.StringIO)
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.file.getvalue()).splitlines()[-3:]
    assert [line.split()[0] for line in last] == ["text_encoder", "denoiser", "vae_decoder"]
    assert [line.split()[-3:] for line in last] == [
        ["1/1", "0.25", "s"],
        ["8/8", "2.50", "s"],
        ["5/5", "1.00", "s"],
    ]
