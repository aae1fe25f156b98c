"""Tables and figures as Markdown."""

from collections.abc import Iterable, Sequence

from lingbot_serve.bench.records import Origin

NOT_MEASURED = "not measured"


def markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def machine(origin: Origin) -> str:
    """Where a row comes from, in one line."""
    versions = ", ".join(f"{name} {number}" for name, number in sorted(origin.versions.items()))
    driver = f", driver {origin.driver}" if origin.driver else ""
    return f"{origin.gpu}{driver}, {versions}; {origin.date}, commit `{origin.commit}`"


def percent(share: float | None) -> str:
    """A share, where it is known."""
    return "" if share is None else f"{share:.1%}"


def number(value: float | None, digits: int) -> str:
    """A figure, where it is known."""
    return "" if value is None else f"{value:.{digits}f}"
