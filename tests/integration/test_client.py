"""The client and its commands against the whole service, and Ctrl-C at a terminal."""

import asyncio
import hashlib
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from lingbot_serve import AsyncClient, Client, Job
from lingbot_serve.camera import orbit
from lingbot_serve.cli import app
from lingbot_serve.errors import (
    IntegrityError,
    InvalidRequestError,
    NotFoundError,
    VideoFailedError,
)
from lingbot_serve.exit_codes import ExitCode
from tests.support.server import PATIENCE_S, Server, picture

ROOT = Path(__file__).resolve().parents[2]
LONG = 400  # steps: far longer than any test looks at
WATCHED = 100  # steps: seconds, so that whoever looks at once sees it unfinished


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


def generate(client: Client, num_inference_steps: int = 3) -> Job:
    return client.generate(
        image=picture(),
        prompt="a lake",
        camera=orbit(9),
        num_frames=9,
        num_inference_steps=num_inference_steps,
        seed=3,
    )


def jobs(server: Server, *arguments: str) -> Result:
    result = CliRunner().invoke(app, ["jobs", *arguments, "--url", server.url])
    assert result.exit_code == ExitCode.DONE, result.output
    return result


def test_from_a_request_to_a_file(client: Client, tmp_path: Path) -> None:
    job = generate(client, WATCHED)
    events = list(job.events())
    assert events[0].event in ("queued", "stage")
    assert events[-1].event == "completed"
    assert job.status == "completed"
    steps = [event.step for event in events if event.stage == "denoiser" and event.step]
    assert steps and steps == sorted(steps)
    assert job.wait(progress=True, timeout_s=5).progress == 100
    assert list(job.events(last_event_id=events[-1].id)) == []

    path = job.save(tmp_path / "clip.mp4")
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    assert job.video.artifacts["video"].sha256 == sha256
    assert [path] == list(tmp_path.iterdir())

    partial = tmp_path / f"again.mp4.{sha256[:16]}.incomplete"
    partial.write_bytes(content[:100])
    assert job.save(tmp_path / "again.mp4").read_bytes() == content
    # Only where the rest alone is fetched does a wrong beginning stay.
    partial.write_bytes(b"X" * 100)
    with pytest.raises(IntegrityError):
        job.save(tmp_path / "again.mp4")

    assert job.id in [listed.id for listed in client.jobs(limit=5)]
    job.delete()
    with pytest.raises(NotFoundError):
        job.refresh()


def test_a_refusal_names_its_field(client: Client) -> None:
    with pytest.raises(InvalidRequestError, match="num_frames: must be 4n") as caught:
        client.generate(image=picture(), prompt="a", num_frames=16)
    assert (caught.value.param, caught.value.code) == ("num_frames", "invalid_value")
    assert caught.value.request_id


def test_one_key_is_one_job(client: Client) -> None:
    wish = {"image": picture(), "prompt": "a lake", "num_frames": 9, "seed": 3}
    first, second = (client.generate(idempotency_key="one-wish", **wish) for _ in range(2))
    assert first.id == second.id
    first.delete()


def test_cancel_while_others_wait(server: Server) -> None:
    async def run() -> None:
        async with AsyncClient(server.url) as client:
            job = await client.generate(
                image=picture(), prompt="a", num_frames=9, num_inference_steps=LONG
            )
            waiting = asyncio.create_task(job.wait(timeout_s=PATIENCE_S))
            async for event in job.events():
                if event.event == "step" and event.stage == "denoiser":
                    break
            other = await client.job(job.id)
            assert (await other.cancel()).state == "cancelled"
            with pytest.raises(VideoFailedError) as caught:
                await waiting
            assert caught.value.code == "cancelled"
            await job.delete()

    asyncio.run(run())


def test_commands(server: Server, client: Client, tmp_path: Path) -> None:
    job = generate(client)
    events = [
        json.loads(line) for line in jobs(server, "watch", job.id, "--json").stdout.splitlines()
    ]
    assert events[-1]["event"] == "completed"
    assert jobs(server, "watch", job.id).stdout == f"{job.id}\n"
    listed = jobs(server, "ls", "--json", "--limit", "1").stdout
    assert json.loads(listed)["id"] == job.id
    assert job.id in jobs(server, "ls").stdout
    assert "completed" in jobs(server, "show", job.id).stdout
    path = tmp_path / "clip.mp4"
    jobs(server, "save", job.id, "-o", str(path))
    assert (
        json.loads(jobs(server, "show", job.id, "--json").stdout)["artifacts"]["video"]["sha256"]
        == hashlib.sha256(path.read_bytes()).hexdigest()
    )
    assert jobs(server, "cancel", job.id).stdout == f"{job.id} completed\n"
    jobs(server, "rm", job.id)
    gone = CliRunner().invoke(app, ["jobs", "show", job.id, "--url", server.url])
    assert gone.exit_code == ExitCode.BAD_INPUT


@pytest.fixture
def long_job(client: Client) -> Iterator[Job]:
    """Outlasts the start of several processes."""
    job = client.generate(image=picture(), prompt="a", num_frames=81, num_inference_steps=1000)
    yield job
    job.delete()


def test_ctrl_c_at_a_terminal_asks(server: Server, long_job: Job) -> None:
    watch = ("jobs", "watch", long_job.id, "--url", server.url)
    with at_terminal(*watch) as first, at_terminal(*watch) as second:
        for terminal in (first, second):
            terminal.read_until("denoiser")
        first.type("\x03")
        first.read_until("[d]etach")
        first.type("\n")
        first.read_until(f"lingbot-serve jobs watch {long_job.id} --url {server.url}")
        assert first.exit_code() == ExitCode.INTERRUPTED
        assert long_job.refresh().status == "in_progress"
        second.type("\x03")
        second.read_until("[c]ancel")
        second.type("c\n")
        assert second.exit_code() == ExitCode.CANCELLED
    assert long_job.refresh().state == "cancelled"


class Terminal:
    """A command at a terminal of its own, which turns Ctrl-C into SIGINT as real ones do."""

    def __init__(self, process: subprocess.Popen[bytes], controller: int) -> None:
        self._process = process
        self._controller = controller
        self._seen = b""

    def read_until(self, text: str, *, timeout_s: float = PATIENCE_S) -> None:
        deadline_s = time.monotonic() + timeout_s
        while text.encode() not in self._seen:
            assert time.monotonic() < deadline_s, self._seen
            try:
                self._seen += os.read(self._controller, 65536)
            except OSError:  # the command has ended
                assert text.encode() in self._seen, self._seen
        self._seen = self._seen.partition(text.encode())[2]

    def type(self, text: str) -> None:
        os.write(self._controller, text.encode())

    def exit_code(self) -> int:
        return self._process.wait(timeout=60)


@contextmanager
def at_terminal(*arguments: str) -> Iterator[Terminal]:
    controller, own = pty.openpty()

    def take_terminal() -> None:
        ioctl(0, termios.TIOCSCTTY, 0)
        # A shell that runs the tests in the background has every process below it ignore SIGINT.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    process = subprocess.Popen(
        [sys.executable, "-m", "lingbot_serve", *arguments],
        cwd=ROOT,
        # Wide, so that no line that is looked for is folded.
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "300", "TERM": "xterm"},
        stdin=own,
        stdout=own,
        stderr=own,
        start_new_session=True,
        preexec_fn=take_terminal,
    )
    os.close(own)
    try:
        yield Terminal(process, controller)
    finally:
        process.kill()
        process.wait()
        os.close(controller)
