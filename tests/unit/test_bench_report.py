"""Prose is what the committed rows say, and a claim is no better than its row."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lingbot_serve.bench.claims import Claim, Results, all_claims
from lingbot_serve.bench.page import performance_page
from lingbot_serve.bench.records import DitRow, E2eRow, add_rows, read_rows
from lingbot_serve.bench.report import (
    BEGIN,
    CHAOS_BEGIN,
    CHAOS_END,
    END,
    generate,
    with_figures,
)
from lingbot_serve.cli import app
from lingbot_serve.exit_codes import ExitCode
from model.errors import ConfigurationError
from tests.support.bench_rows import dit_row, e2e_row

ROOT = Path(__file__).resolve().parents[2]


def test_committed_pages_are_what_the_committed_rows_say():
    for path, text in generate(ROOT).items():
        assert path.read_text() == text, f"{path.name} is stale: run `make docs-performance`"


@pytest.fixture
def tree(tmp_path):
    """A project's tree with a README and one result."""
    (tmp_path / "docs/benchmarks").mkdir(parents=True)
    (tmp_path / "README.md").write_text(f"# Title\n{BEGIN}\nold\n{END}\nrest\n")
    (tmp_path / "docs/reliability.md").write_text(f"# Jobs\n{CHAOS_BEGIN}\n{CHAOS_END}\n")
    add_rows(tmp_path / "docs/benchmarks/dit.json", [dit_row(1)], DitRow)
    return tmp_path


def run(*arguments):
    result = CliRunner().invoke(app, ["bench", "report", *arguments])
    return result.exit_code, result.output


def test_report_writes_then_holds(tree):
    code, output = run("--root", str(tree), "--check")
    assert code == ExitCode.BAD_INPUT
    assert "run bench report" in output
    assert run("--root", str(tree))[0] == ExitCode.DONE
    assert run("--root", str(tree), "--check") == (ExitCode.DONE, "")
    readme = (tree / "README.md").read_text()
    assert readme.startswith(f"# Title\n{BEGIN}\n| ")
    assert readme.endswith(f"{END}\nrest\n")
    assert "commit `abc`" in readme
    page = (tree / "docs/performance.md").read_text()
    assert f"{dit_row(1).seconds:.3f}" in page


def test_new_row_makes_the_pages_stale(tree):
    run("--root", str(tree))
    add_rows(tree / "docs/benchmarks/dit.json", [dit_row(2)], DitRow)
    assert run("--root", str(tree), "--check")[0] == ExitCode.BAD_INPUT


def test_page_without_markers_is_refused(tmp_path):
    page = tmp_path / "README.md"
    page.write_text("# Title\n")
    with pytest.raises(ConfigurationError, match=r"README\.md needs the lines"):
        with_figures(page, "figures", BEGIN, END)


def test_unmeasured_claims_say_so():
    claims = all_claims(Results())
    assert len(claims) == 12
    assert all(claim.holds is None and claim.measured == "" for claim in claims)
    assert "not measured" in performance_page(Results())


@pytest.mark.parametrize(
    ("ratio", "verdict"), [(0.79, "**missed**"), (0.81, "must"), (0.94, "aim")]
)
def test_verdicts(ratio, verdict):
    row = replace(dit_row(1), ratio=ratio)
    page = performance_page(Results(dit=[row]))
    [line] = [line for line in page.splitlines() if "480x832, 81 frames, one forward" in line]
    assert line.endswith(f"| {verdict} |")
    assert f"{ratio:.3f}" in line


def claim(results: Results, start: str) -> Claim:
    [found] = [claim for claim in all_claims(results) if claim.what.startswith(start)]
    return found


def test_gang_claims_take_the_row_of_one_gpu_for_comparison():
    alone, gang = dit_row(1, "480x832x161"), dit_row(4, "480x832x161")
    assert alone.pair_seconds and gang.pair_seconds
    expected = alone.pair_seconds / (4 * gang.pair_seconds)
    both = claim(Results(dit=[alone, gang]), "4 GPUs, 161")
    assert both.measured.startswith(f"{expected:.3f}")
    assert claim(Results(dit=[gang]), "4 GPUs, 161").holds is None


def test_gangs_of_faster_gpus_than_the_one_are_told_of():
    alone, gang = dit_row(1, "480x832x161"), dit_row(4, "480x832x161")
    faster = replace(gang, matmul_tflops=1.1 * alone.matmul_tflops)
    told = [claim(Results(dit=[alone, row]), "4 GPUs, 161").measured for row in (gang, faster)]
    assert ["matmul rate of its GPUs 1.10" in text for text in told] == [False, True]


def test_gangs_of_another_day_than_the_one_are_told_of():
    alone, gang = dit_row(1, "480x832x161"), dit_row(4, "480x832x161")
    later = replace(gang, date="2026-11-24")
    told = [claim(Results(dit=[alone, row]), "4 GPUs, 161").measured for row in (gang, later)]
    assert ["the one of 2026-11-22, the gang of 2026-11-24" in text for text in told] == [
        False,
        True,
    ]


def test_rows_of_no_gpu_prove_nothing():
    row = replace(dit_row(1), gpu="cpu", ratio=0.99)
    assert Results(dit=[row]).gpus == []
    assert "0.990" not in performance_page(Results(dit=[row])).partition("## One forward")[0]


def test_each_type_of_gpu_has_its_column():
    small = replace(dit_row(1), gpu="NVIDIA H100 80GB HBM3", ratio=0.7, experts=1)
    page = performance_page(Results(dit=[small, replace(dit_row(1), ratio=0.94)]))
    [line] = [line for line in page.splitlines() if "480x832, 81 frames, one forward" in line]
    h100, h200 = line.split(" | ")[3:5], line.split(" | ")[5:]
    assert h100[0].startswith("0.700") and "one expert held" in h100[0]
    assert h100[1] == "**missed**"
    assert h200[0].startswith("0.940") and "held" not in h200[0]
    assert page.index("| NVIDIA H100 80GB HBM3 |  | NVIDIA H200 |") < page.index(line)


def test_both_experts_go_before_a_faster_one_alone():
    both = dit_row(1)
    alone = replace(both, experts=1, seconds=both.seconds / 2, ratio=1.0)
    assert f"{both.ratio:.3f}" in claim(Results(dit=[alone, both]), "one GPU, 480x832, 81").measured


@pytest.mark.parametrize(("steps", "holds"), [(70, True), (50, None)])
def test_clip_of_fewer_steps_is_no_clip_of_the_claim(steps, holds):
    row = e2e_row(steps)
    assert claim(Results(e2e=[row]), "4 GPUs, clip over HTTP").holds is holds


def test_clips_of_other_gangs_since_then_are_told_of_and_prove_nothing():
    missed = replace(e2e_row(70), ratio=1.1)
    later = replace(e2e_row(40), gpus=2, date="2026-12-01", ratio=1.02)
    found = claim(Results(e2e=[missed, later]), "4 GPUs, clip over HTTP")
    assert found.holds is False
    assert found.measured.endswith("; 1.020, on 2 GPUs (40 steps, 2026-12-01)")
    same_day = claim(Results(e2e=[missed, replace(later, date=missed.date)]), "4 GPUs, clip over")
    assert "1.020" not in same_day.measured


def test_second_start_is_the_service_without_its_loading():
    found = claim(Results(e2e=[e2e_row(2)]), "second start")
    assert (found.holds, found.measured[:6]) == (True, "20.0 s")
    assert "its whole start 15.0 s" in found.measured
    page = performance_page(Results(e2e=[e2e_row(2)]))
    assert "* 4 NVIDIA H200: gateway 9.0 s, denoiser 49.9 s" in page


def test_the_newest_second_start_is_the_one_that_counts():
    newer = replace(e2e_row(2), gpus=1, date="2026-12-01", second_ready_s=49.0)
    found = claim(Results(e2e=[newer, e2e_row(2)]), "second start")
    assert found.measured.startswith("19.0 s") and found.measured.endswith(", on one GPU")


def test_merge_adds_to_the_committed_rows(tree, tmp_path):
    measured = tmp_path / "measured"
    add_rows(measured / "dit.json", [dit_row(2)], DitRow)
    add_rows(measured / "e2e.json", [e2e_row(70)], E2eRow)
    result = CliRunner().invoke(app, ["bench", "merge", str(measured), "--root", str(tree)])
    assert result.exit_code == ExitCode.DONE, result.output
    assert read_rows(tree / "docs/benchmarks/dit.json", DitRow) == [dit_row(1), dit_row(2)]
    assert read_rows(tree / "docs/benchmarks/e2e.json", E2eRow) == [e2e_row(70)]
