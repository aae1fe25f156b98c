"""The Range header against what slices of bytes say."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.api.ranges import RangeNotSatisfiable, wanted_spans

SIZES = st.integers(0, 40)
NUMBERS = st.integers(0, 50)


@given(st.integers(1, 40), NUMBERS, NUMBERS)
def test_one_range_is_a_slice(size: int, first: int, last: int) -> None:
    data = bytes(range(size))
    wanted = data[first : last + 1]
    header = f"bytes={first}-{last}"
    if first > last:
        assert wanted_spans(header, size) is None
    elif not wanted:
        with pytest.raises(RangeNotSatisfiable):
            wanted_spans(header, size)
    else:
        [(start, end)] = wanted_spans(header, size) or []
        assert data[start:end] == wanted


@given(SIZES, NUMBERS)
def test_open_ended_and_suffix_ranges_are_slices(size: int, number: int) -> None:
    data = bytes(range(size))
    suffix = data[-number:] if number else b""
    for header, wanted in ((f"bytes={number}-", data[number:]), (f"bytes=-{number}", suffix)):
        if wanted:
            [(start, end)] = wanted_spans(header, size) or []
            assert data[start:end] == wanted
        else:
            with pytest.raises(RangeNotSatisfiable):
                wanted_spans(header, size)


@given(SIZES, st.lists(st.tuples(NUMBERS, NUMBERS).map(sorted), min_size=1, max_size=16))
def test_several_ranges_cover_what_each_covers(size: int, ranges: list[list[int]]) -> None:
    header = "bytes=" + " , ".join(f"{first}-{last}" for first, last in ranges)
    wanted = {i for first, last in ranges for i in range(first, last + 1) if i < size}
    if not wanted:
        with pytest.raises(RangeNotSatisfiable):
            wanted_spans(header, size)
        return
    spans = wanted_spans(header, size) or []
    assert {i for start, end in spans for i in range(start, end)} == wanted
    assert all(before[1] < after[0] for before, after in itertools.pairwise(spans))


@given(st.text())
def test_no_header_breaks_it(header: str) -> None:
    for text in (header, f"bytes={header}"):
        try:
            spans = wanted_spans(text, 1000)
        except RangeNotSatisfiable:
            continue
        assert spans is None or all(0 <= start < end <= 1000 for start, end in spans)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=1-2,x",
        "bytes=--1",
        "bytes=1",
        "rows=0-1",
        "bytes=" + "0-0," * 17,
        "bytes=0-" + "9" * 5000,
        "bytes=١-٢",
    ],
)
def test_what_a_server_may_ignore_is_ignored(header: str | None) -> None:
    assert wanted_spans(header, 10) is None


def test_units_have_no_case_and_lists_may_have_gaps() -> None:
    assert wanted_spans("Bytes= 0-0, ,2-3,", 10) == [(0, 1), (2, 4)]
