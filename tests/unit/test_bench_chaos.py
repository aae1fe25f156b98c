"""The kill matrix: what a row says is wrong, and what the table makes of rows."""

from dataclasses import replace

import pytest

from lingbot_serve.bench.chaos import FILE, STATES, STRIKES, ChaosRow, chaos_table
from lingbot_serve.bench.records import add_rows

ROW = ChaosRow(
    gpu="cpu",
    driver="",
    versions={"ray": "2.60.0"},
    date="2026-11-22",
    commit="abc",
    host_cpus=2,
    strike="rank",
    state="denoising",
    outcome="completed",
    attempts=2,
    denoises=2,
    denoises_repeated=0,
    resumed_s=11.04,
    ended_s=14.26,
    bystanders=["completed", "completed"],
    whole_s=12.0,
)


@pytest.mark.parametrize(
    ("changed", "faults"),
    [
        ({}, []),
        ({"outcome": "stage_died"}, []),
        ({"outcome": ""}, ["failed without a cause"]),
        ({"outcome": "internal_error"}, ["failed without a named cause"]),
        ({"outcome": "never_ended"}, ["never ended"]),
        ({"outcome": "content_404"}, ["lost: content_404"]),
        ({"bystanders": ["completed", "never_ended"]}, ["never ended"]),
        ({"denoises_repeated": 1}, ["denoised again after its latents existed"]),
    ],
)
def test_faults(changed, faults):
    assert replace(ROW, **changed).faults == faults


def test_table_has_every_cell(tmp_path):
    failed = replace(ROW, state="queued", outcome="stage_died", ended_s=None)
    add_rows(tmp_path / FILE, [ROW, failed], ChaosRow)
    table = chaos_table(tmp_path)
    [line] = [line for line in table.splitlines() if line.startswith("| one rank")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert len(cells) == 1 + len(STATES)
    assert cells[1] == "`stage_died` 11.0 / never s"
    assert cells[3] == "11.0 / 14.3 s"
    assert table.count("not measured") == len(STATES) * len(STRIKES) - 2
    assert "Of 2 struck jobs 1 were completed, of 4 beside them 4" in " ".join(table.split("\n"))
    assert "On 2 CPU cores, Ray 2.60.0; 2026-11-22, commit `abc`." in table


def test_a_repeated_cell_replaces_its_row(tmp_path):
    add_rows(tmp_path / FILE, [ROW], ChaosRow)
    assert add_rows(tmp_path / FILE, [replace(ROW, resumed_s=1.0)], ChaosRow)[0].resumed_s == 1.0
