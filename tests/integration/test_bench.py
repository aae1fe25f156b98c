"""The benchmarks themselves, on a CPU with tiny models: what GPUs run, but for the kernels."""

import subprocess
import sys
from pathlib import Path

import pytest

from lingbot_serve.bench.flops import DiTSizes, forward_flop
from lingbot_serve.bench.records import DitRow, E2eRow, LoadRow, VaeRow, read_rows

ROOT = Path(__file__).resolve().parents[2]
CLIP = "96x64x9"


def bench(*arguments: object) -> str:
    """Runs `lingbot-serve bench` and returns what it showed."""
    command = [sys.executable, "-m", "lingbot_serve", "bench", *map(str, arguments)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout


@pytest.fixture(scope="module")
def dit_rows(tmp_path_factory) -> list[DitRow]:
    path = tmp_path_factory.mktemp("bench") / "dit.json"
    gangs = ("--gpus", 2, "--sharding", "none", "--sharding", "per_expert")
    small = ("--model", "tiny", "--device", "cpu", "--clip", CLIP, "--compile", "off")
    halves = ("--cfg-parallel", "off", "--cfg-parallel", "on")
    table = bench("dit", *small, *gangs, *halves, "--commit", "abc", "--json", path)
    assert "per_expert" in table
    return read_rows(path, DitRow)


def test_every_case_has_its_row(dit_rows):
    cases = [(row.gpus, row.cfg_parallel, row.sharding) for row in dit_rows]
    assert cases == [(2, halves, how) for halves in (False, True) for how in ("none", "per_expert")]
    for row in dit_rows:
        assert (row.gpu, row.model, row.size, row.frames) == ("cpu", "tiny", "96x64", 9)
        assert (row.attention, row.commit, row.kept_modulations) == ("sdpa", "abc", 1)


def test_figures_of_a_row_belong_together(dit_rows):
    sizes = DiTSizes(dim=128, ffn_dim=256, num_layers=2)
    for row in dit_rows:
        # 3 latent frames of 6x4 tokens
        assert row.tflops == pytest.approx(forward_flop(72, sizes) / row.seconds / 1e12, abs=1e-4)
        assert row.ratio == pytest.approx(row.tflops / row.gpus / row.matmul_tflops, rel=0.2)
        assert sum(row.kernel_shares.values()) == pytest.approx(1, abs=1e-3)
        assert row.pair_seconds > 0


def test_gangs_communicate(dit_rows):
    gang, sharded, *_ = dit_rows
    assert gang.silent_seconds > 0
    assert gang.together_pair_seconds > 0
    assert gang.kernel_shares["communication"] > 0
    assert (gang.gather_s, sharded.gather_s is None) == (None, False)


def test_forward_of_two_halves_is_half_a_step(dit_rows):
    for row in dit_rows[2:]:
        assert row.seconds == pytest.approx(row.pair_seconds / 2, abs=1e-4)
        assert row.together_pair_seconds is None
        assert row.silent_seconds is None  # each half is one rank here, which exchanges nothing


def test_failed_case_is_told_and_the_rest_goes_on(tmp_path):
    arguments = ["dit", "--model", "tiny", "--device", "cpu", "--clip", CLIP, "--compile", "off"]
    command = [*arguments, "--attention", "cudnn", "--attention", "sdpa", "--json", tmp_path / "d"]
    run = subprocess.run(
        [sys.executable, "-m", "lingbot_serve", "bench", *map(str, command)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "cudnn" in run.stderr
    assert "needs a GPU" in run.stderr
    [row] = read_rows(tmp_path / "d", DitRow)
    assert (row.attention, row.gpus, row.silent_seconds) == ("sdpa", 1, None)
    assert row.kernel_shares["communication"] == 0


def test_vae(tmp_path):
    path = tmp_path / "vae.json"
    bench("vae", "--device", "cpu", "--clip", CLIP, "--vae-dim", 8, "--repeats", 1, "--json", path)
    rows = {(row.direction, row.dtype): row for row in read_rows(path, VaeRow)}
    assert set(rows) == {(d, t) for d in ("encode", "decode") for t in ("float32", "bfloat16")}
    for (_, dtype), row in rows.items():
        assert row.seconds > 0
        assert (row.psnr_db is None) == (dtype == "float32")
        assert row.psnr_db is None or row.psnr_db > 25


def test_load(tmp_path, synthetic_checkpoint):
    path = tmp_path / "load.json"
    where = ("--checkpoint", synthetic_checkpoint.root, "--device", "cpu", "--json", path)
    bench("load", *where, "--gpus", 2, "--sharding", "none", "--sharding", "per_expert")
    whole, shared = read_rows(path, LoadRow)
    files = [*synthetic_checkpoint.root.glob("*_noise_model/*.safetensors")]
    assert whole.bytes == shared.bytes == sum(file.stat().st_size for file in files)
    assert shared.slice_gib < whole.slice_gib
    rate_gb_per_s = whole.bytes / 1e9 / whole.seconds
    assert whole.ratio == pytest.approx(rate_gb_per_s / whole.raw_gb_per_s, rel=0.1)


@pytest.mark.timeout(900)  # the service starts twice
def test_clip_over_http(tmp_path, synthetic_checkpoint):
    path = tmp_path / "e2e.json"
    bench(
        *("e2e", "--config", ROOT / "examples/cpu.yaml"),
        *("--checkpoint", synthetic_checkpoint.root, "--gang-size", 1),
        *("--clip", CLIP, "--steps", 2, "--warm-steps", 0, "--repeats", 1, "--second-start"),
        *("--json", path),
    )
    [row] = read_rows(path, E2eRow)
    denoising_s = row.wall_s - row.encode_s - row.decode_s
    assert row.ratio == pytest.approx(denoising_s / (4 * row.forward_s), rel=0.01)
    assert (row.attention, row.sharding, row.cfg_parallel) == ("sdpa", "none", False)
    for ready_s, *of_which_s in (
        (row.ready_s, row.load_s, row.warm_up_s),
        (row.second_gang_s, row.second_load_s, row.second_warm_up_s),
    ):
        assert 0 < sum(of_which_s) < ready_s
    assert row.second_gang_s < row.second_ready_s
    assert 0 < row.second_waited_s["denoiser"] < row.second_ready_s
    assert set(row.stage_durations) >= {"denoiser", "vae_decoder"}
