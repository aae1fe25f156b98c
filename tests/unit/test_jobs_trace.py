"""`lingbot-serve jobs trace`: a database's finished jobs, as `simulate --trace` reads them."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from sqlalchemy.orm import Session
from typer.testing import CliRunner

from autoscaling.simulator.recorded import read_trace
from deployments.jobs.database import open_database
from deployments.jobs.tables import COMPLETED, FAILED, Job
from lingbot_serve.cli import app
from lingbot_serve.exit_codes import ExitCode

PROMPT = "a secret lake"


def job(name: str, **fields: Any) -> Job:
    made = {"status": COMPLETED, "gang_s": 10.0, "predicted_s": 9.0, "created_at": 1000.0}
    size = {"width": 832, "height": 480, "num_frames": 81, "num_inference_steps": 70}
    return Job(id=name, model="m", prompt=PROMPT, seed="1", **{**made, **size, **fields})


def trace(url: str, *flags: str) -> Result:
    return CliRunner().invoke(app, ["jobs", "trace", "--database-url", url, *flags])


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    engine = open_database(url)
    with Session(engine) as session, session.begin():
        session.add_all(
            [
                job("late", created_at=1060.0, due_at_s=1240.0, key_id="key_b", priority="high"),
                job("first", key_id="key_a", record={"denoiser": {"ranks": 4}}),
                job("again", created_at=1090.0, key_id="key_b", predicted_s=None),
                job("failed", status=FAILED),
                job("not timed", gang_s=None),
                job("canary", origin="canary"),
            ]
        )
    engine.dispose()
    return url


def test_finished_jobs_become_lines_that_simulate_reads(url: str, tmp_path: Path) -> None:
    result = trace(url)
    assert result.exit_code == ExitCode.DONE, result.output
    assert "3 clips; 2 jobs without a timed clip are left out" in result.stderr
    first, late, again = [json.loads(line) for line in result.stdout.splitlines()]
    assert (first["arrival_s"], first["gpu_s"], first["predicted_gpu_s"]) == (0.0, 40.0, 36.0)
    assert (late["arrival_s"], late["deadline_s"], late["priority"]) == (60.0, 180.0, "high")
    assert (late["gpu_s"], again["predicted_gpu_s"]) == (80.0, None)
    assert [clip["key"] for clip in (first, late, again)] == ["1", "2", "2"]
    file = tmp_path / "trace.jsonl"
    file.write_text(result.stdout)
    read = read_trace(file, 8)
    assert read.gpu_s.tolist() == [40.0, 80.0, 80.0]
    assert read.asked is not None and read.asked[1].priority == "high"
    simulated = CliRunner().invoke(app, ["simulate", "--trace", str(file), "--json"])
    assert json.loads(simulated.output)["num_jobs"] == 3


def test_nobody_is_told_what_was_asked_for_or_by_whom(url: str) -> None:
    written = trace(url).output
    for secret in (PROMPT, "key_a", "late"):
        assert secret not in written


def test_other_gangs_have_other_sizes(url: str) -> None:
    costs = [
        json.loads(line)["gpu_s"] for line in trace(url, "--gang-size", "2").stdout.splitlines()
    ]
    assert costs == [40.0, 20.0, 20.0]


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    result = trace(f"sqlite:///{tmp_path / 'other.sqlite'}")
    assert result.exit_code == ExitCode.BAD_INPUT
    assert "there is no database" in result.stderr
    assert not list(tmp_path.iterdir())
