"""`lingbot-serve simulate`: its table, its JSON, and what it refuses."""

import json

import pytest
from typer.testing import CliRunner

from lingbot_serve.cli import app
from lingbot_serve.exit_codes import ExitCode
from lingbot_serve.planning.rates import benchmark_folder

SMALL = ["simulate", "--jobs", "500", "--gpus", "64"]
ENVIRONMENT = {"TERMINAL_WIDTH": "200", "COLUMNS": "200"}


def output(*flags: str) -> str:
    """Runs a small simulation."""
    result = CliRunner().invoke(app, [*SMALL, *flags], env=ENVIRONMENT)
    assert result.exit_code == ExitCode.DONE, result.output
    return result.output


@pytest.mark.parametrize("trace", ["poisson", "bursts", "diurnal"])
def test_json_holds_both_policies_and_the_bounds(trace):
    report = json.loads(output("--trace", trace, "--json", "--seed", "5", "--order", "fifo"))
    assert report["num_jobs"] == 500
    assert report["settings"]["seed"] == 5
    assert set(report["reports"]) == {"work", "requests"}
    for each in report["reports"].values():
        assert report["bounds"]["wait"]["p95_s"] <= each["wait"]["p95_s"]
        assert report["bounds"]["least_gpu_hours"] <= each["gpu_hours"]
        assert each["cost"] == pytest.approx(2.5 * each["gpu_hours"])
        assert 250 < each["num_due"] < 400
        assert each["deadline_hits"] <= report["bounds"]["deadline_hits"]


def test_seed_decides():
    assert output("--json") == output("--json")
    assert output("--json") != output("--json", "--seed", "1")


def test_clips_are_taken_as_gateways_take_them():
    fair, fifo = (
        json.loads(output("--json", "--load", "0.6", *order)) for order in ([], ["--order", "fifo"])
    )
    assert (fair["settings"]["order"], fifo["settings"]["order"]) == ("fair", "fifo")
    for policy in ("work", "requests"):
        served, before = fair["reports"][policy], fifo["reports"][policy]
        assert served["wait"]["mean_s"] < 0.8 * before["wait"]["mean_s"]
        assert served["deadline_hits"] > before["deadline_hits"]


def test_table_shows_the_chosen_policy():
    text = output("--policy", "work", "--node-mtbf", "50")
    assert "work" in text
    assert "clairvoyant" in text
    assert "requests" not in text


def test_file_is_replayed(tmp_path):
    file = tmp_path / "trace.jsonl"
    file.write_text('{"arrival_s": 0, "gpu_s": 800}\n{"arrival_s": 9, "gpu_s": 800}\n')
    assert json.loads(output("--trace", str(file), "--json"))["num_jobs"] == 2


def test_the_recorded_trace_is_replayed():
    file = benchmark_folder() / "order_trace.jsonl"
    machines = ["--gpus", "6", "--gang-size", "1", "--cold-start", "6"]
    report = json.loads(output("--trace", str(file), "--json", *machines))
    clips = [json.loads(line) for line in file.read_text().splitlines()]
    assert report["num_jobs"] == len(clips) > 80
    assert report["bounds"]["least_gpu_hours"] == pytest.approx(
        sum(clip["gpu_s"] for clip in clips) / 3600
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--trace", "weekly"], "No such file"),
        (["--gpus", "4"], "no gang of 8 fits onto 4 GPUs"),
        (["--policy", "fast"], "fast"),
        (["--jobs", "0"], "--jobs"),
    ],
)
def test_refusals(flags, message):
    result = CliRunner().invoke(app, [*SMALL, *flags], env=ENVIRONMENT)
    assert result.exit_code == ExitCode.BAD_INPUT
    assert message in result.output
