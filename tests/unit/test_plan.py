"""`lingbot-serve plan`: what it answers, from which measurements, and what it refuses."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autoscaling.cost import CostModel
from lingbot_serve.bench.cost_model import rank_work
from lingbot_serve.bench.records import DitRow, VaeRow, add_rows
from lingbot_serve.cli import app
from lingbot_serve.exit_codes import ExitCode
from lingbot_serve.planning.plan import Demand, Machines, make_plan
from lingbot_serve.planning.rates import ClipSize, ClipTimes, benchmark_folder, clip_times
from model.errors import ConfigurationError
from tests.support.bench_rows import KNOWN, dit_row, vae_row

CLIP = ClipSize(width=832, height=480, num_frames=81, num_steps=70)
LONGER = replace(CLIP, num_frames=161)


def plan(tmp_path: Path, *flags: str) -> dict:
    """A plan from no measurements but those in a folder."""
    fixed = ["plan", "--json", "--benchmarks", str(tmp_path), "--jobs-per-hour"]
    result = CliRunner().invoke(app, [*fixed, *flags])
    assert result.exit_code == ExitCode.DONE, result.output
    answer: dict = json.loads(result.output)
    return answer


def refused(*flags: str) -> str:
    result = CliRunner().invoke(app, ["plan", *flags])
    assert result.exit_code == ExitCode.BAD_INPUT, result.output
    return result.output


def times(folder: Path, clip: ClipSize = CLIP):
    return clip_times(clip, gang_size=8, gpu="H200", folder=folder)


def write_dit(folder: Path, *rows: DitRow) -> None:
    add_rows(folder / "dit.json", rows, DitRow)


def test_gangs_carry_the_load_and_no_more(tmp_path: Path) -> None:
    answer = plan(tmp_path, "100", "--slo", "400")
    needed = 100 / 3600 * answer["times"]["denoise_s"]
    assert needed < answer["gangs"] <= needed + 3
    assert answer["fixed"]["hits"] >= 0.95
    assert answer["fixed"]["gangs_mean"] == pytest.approx(answer["gangs"], rel=0.01)
    assert answer["nodes"] == math.ceil(answer["gangs"] + answer["light_gpus"] / 8)
    video_minutes = 100 * 81 / 16 / 60
    cost = answer["fixed"]["gpu_hours_per_hour"] * 2.5 / video_minutes
    assert answer["fixed"]["cost_per_video_minute"] == pytest.approx(cost)


def test_a_tighter_slo_takes_more_gangs_and_scaling_saves(tmp_path: Path) -> None:
    lax = plan(tmp_path, "60", "--slo", "900", "--arrivals", "bursts")
    tight = plan(tmp_path, "60", "--slo", "150", "--arrivals", "bursts")
    assert tight["gangs"] > lax["gangs"]
    assert tight["scaled"]["gpu_hours_per_hour"] < tight["fixed"]["gpu_hours_per_hour"]


def test_without_an_slo_the_queue_just_does_not_grow(tmp_path: Path) -> None:
    answer = plan(tmp_path, "300")
    assert answer["gangs"] == math.floor(300 / 3600 * answer["times"]["denoise_s"]) + 1
    assert answer["fixed"]["hits"] is None


@pytest.mark.parametrize(
    ("gang_size", "decode_s", "nodes"),
    # Three gangs on nodes of 8 GPUs; decoding for 504 s keeps 20 GPUs busy.
    [(8, 0.1, 4), (4, 0.1, 2), (3, 0.1, 2), (5, 0.1, 3), (12, 0.1, 6), (5, 504.0, 5)],
)
def test_a_gang_takes_no_left_over_gpus_of_several_nodes(
    gang_size: int, decode_s: float, nodes: int
) -> None:
    takes = ClipTimes(1.0, 75.0, 0.0, decode_s, 0.0, "a test")
    machines = Machines(gang_size=gang_size, node_gpus=8, cold_start_s=120.0, price=1.0)
    demand = Demand(
        jobs_per_hour=100, clip=CLIP, slo_s=None, share=0.95, arrivals="poisson", seed=0
    )
    planned = make_plan(demand, machines, takes)
    assert (planned.gangs, planned.nodes) == (3, nodes)


def test_tables_name_where_the_step_time_is_from() -> None:
    result = CliRunner().invoke(app, ["plan", "--jobs-per-hour", "20"])
    assert result.exit_code == ExitCode.DONE, result.output
    assert "gangs of 8 GPUs" in result.output
    assert "step time:" in result.output


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["100", "--slo", "30"], "waits for nobody takes"),
        (["100", "--num-frames", "80"], "4n+1"),
        (["100", "--size", "wide"], "WxH"),
        (["100", "--size", "8x8"], "16 pixels"),
        (["1e9"], "gangs at least"),
    ],
)
def test_what_cannot_be_planned_is_refused(flags: list[str], words: str) -> None:
    assert words in refused("--jobs-per-hour", *flags)


def test_a_measured_size_is_taken_as_it_is(tmp_path: Path) -> None:
    row = replace(dit_row(8), seconds=0.6, pair_seconds=1.0)
    slow = replace(row, attention="sdpa", seconds=0.9, pair_seconds=1.7)
    write_dit(tmp_path, slow, row)
    assert times(tmp_path).step_s == 1.0
    assert times(tmp_path).source.startswith("measured (NVIDIA H200")


def test_other_sizes_are_scaled_from_the_nearest(tmp_path: Path) -> None:
    write_dit(tmp_path, replace(dit_row(8), seconds=0.5, pair_seconds=None))
    ratio = CostModel().step_s(LONGER.tokens, 8) / CostModel().step_s(CLIP.tokens, 8)
    assert times(tmp_path, LONGER).step_s == pytest.approx(1.0 * ratio)


def test_gangs_that_were_not_measured_are_predicted_by_the_fitted_rates(tmp_path: Path) -> None:
    rows = [dit_row(gpus, clip) for gpus in (1, 2) for clip in ("480x832x81", "480x832x161")]
    write_dit(tmp_path, *rows)
    expected = KNOWN.pair_s(rank_work(LONGER.tokens, 8))
    assert times(tmp_path, LONGER).step_s == pytest.approx(expected)
    assert times(tmp_path).source.startswith("predicted from 4 forwards")
    two_hosts = clip_times(LONGER, gang_size=16, gpu="H200", folder=tmp_path)
    assert two_hosts.step_s > KNOWN.forward_s(rank_work(LONGER.tokens, 8))  # and the network


def test_other_gpus_and_gangs_do_not_count(tmp_path: Path) -> None:
    write_dit(tmp_path, *(replace(dit_row(gpus), gpu="cpu") for gpus in (1, 8)))
    assert times(tmp_path).step_s == CostModel().step_s(CLIP.tokens, 8)


def test_measured_decoding_counts(tmp_path: Path) -> None:
    compiled, plain = (vae_row(seconds, compiled=seconds < 2) for seconds in (1.5, 4.0))
    add_rows(tmp_path / "vae.json", [plain, compiled], VaeRow)
    assert times(tmp_path).vae_decode_s == 1.5
    assert times(tmp_path).vae_encode_s == 1.72


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "dit.json").write_text("[]")
    with pytest.raises(ConfigurationError, match=r"dit\.json holds no DitRow rows"):
        times(tmp_path)


def test_the_repository_s_measurements_are_found() -> None:
    assert (benchmark_folder() / "autoscaling.json").is_file()
