"""`lingbot-serve jobs` against a real socket: what it prints, and with which exit code it ends."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from lingbot_serve.cli import app
from lingbot_serve.exit_codes import ExitCode
from tests.support.scripted_server import ScriptedServer, scripted_server, video

ROOT = Path(__file__).resolve().parents[2]
PROMPT = "a [bold]lake[/bold]"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as server:
        yield server


def jobs(server: ScriptedServer, *arguments: str) -> Result:
    environment = {"LINGBOT_BASE_URL": server.url, "LINGBOT_API_KEY": "secret"}
    return CliRunner().invoke(app, ["jobs", *arguments], env=environment)


def records(result: Result) -> list[dict[str, object]]:
    assert result.exit_code == ExitCode.DONE, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_ls_is_a_line_for_each_job(server: ScriptedServer) -> None:
    running = video(status="in_progress", stage="denoiser", step=3, total_steps=8, prompt=PROMPT)
    waiting = video(id="video_" + "f" * 32, queue_position=2)
    server.will_answer({"data": [running, waiting], "has_more": False})
    result = jobs(server, "ls", "--limit", "5", "--oldest-first")
    first, second = [line for line in result.stdout.splitlines() if "video_" in line]
    assert first.split()[:3] == ["video_1", "in_progress", "0"]
    assert "denoiser 3/8" in first
    assert PROMPT in first
    assert second.split()[0] == waiting["id"]
    assert "place 2" in second
    assert server.lines == ["GET /v1/videos?limit=5&order=asc"]
    assert server.asked[0].headers["authorization"] == "Bearer secret"


def test_ls_as_json_lines(server: ScriptedServer) -> None:
    server.will_answer({"data": [video(), video(id="video_2")], "has_more": False})
    first, second = records(jobs(server, "ls", "--json"))
    assert (first["id"], first["later_field"], second["id"]) == ("video_1", 1, "video_2")


def test_show(server: ScriptedServer) -> None:
    server.will_answer(video(prompt=PROMPT))
    result = jobs(server, "show", "video_1")
    assert ["prompt", *PROMPT.split()] in [line.split() for line in result.stdout.splitlines()]
    server.will_answer(video())
    [shown] = records(jobs(server, "show", "video_1", "--json"))
    assert shown["status"] == "queued"


def test_watch_as_json_lines(server: ScriptedServer) -> None:
    server.will_answer(video())
    step = {"stage": "denoiser", "step": 1, "total_steps": 2}
    server.will_stream(("step", "1", step), ("completed", "2", video(status="completed")))
    stepped, completed = records(jobs(server, "watch", "video_1", "--json"))
    assert stepped == {"event": "step", "id": "1", **step}
    assert completed["event"] == "completed"
    assert completed["video"]["status"] == "completed"  # type: ignore[index]


@pytest.mark.parametrize(
    ("code", "expected"),
    [("rank_died", ExitCode.FAILED), ("cancelled", ExitCode.CANCELLED)],
)
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_watch_ends_with_how_the_job_ended(
    server: ScriptedServer, code: str, expected: ExitCode, flags: list[str]
) -> None:
    failed = video(status="failed", error={"code": code, "message": "it is over"})
    server.will_answer(failed)
    if flags:
        server.will_stream(("failed", "1", failed))
    result = jobs(server, "watch", "video_1", *flags)
    assert result.exit_code == expected
    assert result.stderr == f"error: it is over ({code})\n"


def test_cancel_and_rm_take_several(server: ScriptedServer) -> None:
    for name in ("video_1", "video_2"):
        server.will_answer(video(id=name))
        server.will_answer(video(id=name, status="failed", state_detail="cancelled"))
    result = jobs(server, "cancel", "video_1", "video_2")
    assert result.stdout == "video_1 cancelled\nvideo_2 cancelled\n"
    for _ in range(2):
        server.will_answer(video())
        server.will_answer({"id": "video_1", "deleted": True})
    assert jobs(server, "rm", "video_1").stdout == "video_1 deleted\n"
    assert records(jobs(server, "rm", "video_1", "--json")) == [{"id": "video_1", "deleted": True}]


def test_save(server: ScriptedServer, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    server.will_answer(video(status="completed"))
    server.will_send(b"an mp4")
    [written] = records(jobs(server, "save", "video_1", "-o", str(path), "--json"))
    assert written == {"id": "video_1", "variant": "video", "path": str(path)}
    assert path.read_bytes() == b"an mp4"


def test_refusals_have_exit_codes(server: ScriptedServer) -> None:
    server.will_answer({"error": {"message": "no video has the id x"}}, 404)
    result = jobs(server, "show", "x")
    assert (result.exit_code, result.stderr) == (
        ExitCode.BAD_INPUT,
        "error: no video has the id x\n",
    )


def test_the_shell_completes_commands() -> None:
    environment = {"_LINGBOT_SERVE_COMPLETE": "complete_bash", "COMP_CWORD": "2"}
    environment["COMP_WORDS"] = "lingbot-serve jobs "
    program = "from lingbot_serve.cli import app; app(prog_name='lingbot-serve')"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert {"ls", "show", "watch", "cancel", "rm", "save"} <= set(result.stdout.split())
