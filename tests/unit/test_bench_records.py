"""Rows on disk: what is measured again replaces what was there."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from lingbot_serve.bench.records import DitRow, LoadRow, add_rows, read_rows
from model.errors import ConfigurationError
from tests.support.bench_rows import dit_row


def test_no_file_is_no_rows(tmp_path):
    assert read_rows(tmp_path / "dit.json", DitRow) == []


def test_rows_come_back(tmp_path):
    path = tmp_path / "bench/dit.json"
    rows = [dit_row(1), dit_row(2)]
    assert add_rows(path, rows, DitRow) == rows
    assert read_rows(path, DitRow) == rows


def test_a_case_measured_again_replaces_its_row(tmp_path):
    path = tmp_path / "dit.json"
    old, other = dit_row(1), dit_row(2)
    add_rows(path, [old, other], DitRow)
    new = replace(old, seconds=old.seconds / 2, commit="def")
    eager = replace(old, compile=False)
    assert add_rows(path, [new, eager], DitRow) == [eager, new, other]


@pytest.mark.parametrize("other", [{"experts": 1}, {"cfg_parallel": True}, {"attention": "sdpa"}])
def test_other_cases_stay_beside_each_other(tmp_path, other):
    row = dit_row(2)
    kept = add_rows(tmp_path / "dit.json", [row, replace(row, **other)], DitRow)
    assert len(kept) == 2


def test_processes_that_add_at_once_lose_nothing(tmp_path):
    rows = [replace(dit_row(1), attention=f"kernel {n}") for n in range(20)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda row: add_rows(tmp_path / "dit.json", [row], DitRow), rows))
    assert len(read_rows(tmp_path / "dit.json", DitRow)) == len(rows)


@pytest.mark.parametrize("text", ["", "[]", '{"rows": [{"gpu": "H100"}]}'])
def test_foreign_file_is_named(tmp_path, text):
    path = tmp_path / "dit.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"dit\.json holds no DitRow rows"):
        read_rows(path, DitRow)


def test_rows_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "dit.json"
    add_rows(path, [dit_row(1)], DitRow)
    with pytest.raises(ConfigurationError, match="holds no LoadRow rows"):
        read_rows(path, LoadRow)


def test_exposed_communication():
    row = replace(
        dit_row(4),
        seconds=2.0,
        silent_seconds=1.5,
        pair_seconds=4.0,
        silent_pair_seconds=3.9,
    )
    assert row.exposed_alone == pytest.approx(0.25)
    assert row.exposed_communication == pytest.approx(0.025)
    assert dit_row(1).exposed_communication is None
