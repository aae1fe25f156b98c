"""Prose is what the committed rows say, and a claim is no better than its row."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lingbot_serve.bench.claims import Results, all_claims
from lingbot_serve.bench.page import performance_page
from lingbot_serve.bench.records import DitRow, add_rows
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
from tests.support.bench_rows import dit_row

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


def test_gang_claims_take_the_row_of_one_gpu_for_comparison():
    alone, gang = dit_row(1, "480x832x161"), dit_row(4, "480x832x161")
    assert alone.pair_seconds and gang.pair_seconds
    [claim] = [
        c for c in all_claims(Results(dit=[alone, gang])) if c.what.startswith("4 H200, 161")
    ]
    expected = alone.pair_seconds / (4 * gang.pair_seconds)
    assert claim.measured.startswith(f"{expected:.3f}")
    [without] = [c for c in all_claims(Results(dit=[gang])) if c.what.startswith("4 H200, 161")]
    assert without.holds is None


def test_rows_of_other_gpus_prove_nothing():
    row = replace(dit_row(1), gpu="cpu", ratio=0.99)
    assert all(claim.holds is None for claim in all_claims(Results(dit=[row])))
