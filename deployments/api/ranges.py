"""The `Range` header of RFC 9110: which bytes of a file a client wants."""

import re

# A player asks for one, a document viewer for some; more is a client that wastes answers.
_MAX_RANGES = 16
_SPEC = re.compile(r"([0-9]{0,19})-([0-9]{0,19})")

Span = tuple[int, int]


class RangeNotSatisfiable(Exception):
    """No byte of the file is in any of the ranges."""


def wanted_spans(header: str | None, num_bytes: int) -> list[Span] | None:
    """Reads a header.

    Args:
        header: Its value.
        num_bytes: Size of the file.

    Returns:
        Spans as (first, behind the last) in the order in which they lie in the file, those that
        touch made one; None where the whole file is to be sent: without a header, and for one
        that is malformed, of another unit or of too many ranges, which a server may ignore.

    Raises:
        RangeNotSatisfiable: The header is sound, but no byte is in it.
    """
    specs = _specs(header)
    if specs is None:
        return None
    spans = [_span(first, last, num_bytes) for first, last in specs]
    found = _merge([(start, end) for start, end in spans if start < end])
    if not found:
        raise RangeNotSatisfiable
    return found


def _specs(header: str | None) -> list[tuple[str, str]] | None:
    unit, separator, ranges = (header or "").partition("=")
    if not separator or unit.strip().lower() != "bytes":
        return None
    # Elements of a list may be empty.
    texts = [text for part in ranges.split(",") if (text := part.strip(" \t"))]
    matches = [_SPEC.fullmatch(text) for text in texts]
    if not 0 < len(matches) <= _MAX_RANGES:
        return None
    specs = [(match[1], match[2]) for match in matches if match is not None]
    if len(specs) < len(matches) or any(_is_malformed(*spec) for spec in specs):
        return None
    return specs


def _is_malformed(first: str, last: str) -> bool:
    if first and last:
        return int(first) > int(last)
    return not first and not last


def _span(first: str, last: str, num_bytes: int) -> Span:
    if not first:
        return max(0, num_bytes - int(last)), num_bytes
    return int(first), min(int(last) + 1, num_bytes) if last else num_bytes


def _merge(spans: list[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged
