"""The kill matrix: its rows, and the table of docs/reliability.md."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lingbot_serve.bench.markdown import NOT_MEASURED, markdown, number
from lingbot_serve.bench.records import Origin, read_rows

FILE = Path("docs/benchmarks/chaos.json")
PAGE = Path("docs/reliability.md")
STATES = ("queued", "encoding", "denoising", "decoding", "storing")
# What is struck, as the harness and as the table names it.
STRIKES = {
    "rank": "one rank",
    "gang": "whole gang, owner included",
    "decoder": "decoder",
    "encoder": "encoder",
    "pipeline": "pipeline",
    "gateway": "gateway replica",
    "controller": "Serve controller",
    "raylet": "raylet of the node at work",
    "database": "connection to the database, 4 s",
    "artifacts": "artifact store, 4 s",
}
_FAULTS = {
    "": "failed without a cause",
    "internal_error": "failed without a named cause",
    "never_ended": "never ended",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosRow(Origin):
    """One cell: a part struck while a job was in a state, with other jobs beside it.

    Args:
        strike: What was struck.
        state: Where the job stood.
        outcome: "completed", the error's code, "never_ended", or "content_404" and the like where a
            completed job's clip does not download.
        attempts: How often a gateway took the job.
        denoises: How often a gang began to denoise it.
        denoises_repeated: Of those, the ones begun although a gang had finished it before.
        resumed_s: From the strike until the job went on after its longest standstill.
        ended_s: From the strike to its end.
        bystanders: How the other jobs ended.
        whole_s: From the strike until every part of the service lived again.
    """

    KEY: ClassVar[tuple[str, ...]] = ("gpu", "strike", "state")

    strike: str
    state: str
    outcome: str
    attempts: int
    denoises: int
    denoises_repeated: int
    resumed_s: float | None
    ended_s: float | None
    bystanders: Sequence[str]
    whole_s: float

    @property
    def faults(self) -> list[str]:
        """What should not be; empty if all holds."""
        ends = (self.outcome, *self.bystanders)
        found = [_FAULTS[end] for end in ends if end in _FAULTS]
        found += [f"lost: {end}" for end in ends if end.startswith("content_")]
        if self.denoises_repeated:
            found.append("denoised again after its latents existed")
        return found


def chaos_table(root: Path) -> str:
    """The generated part of docs/reliability.md.

    Args:
        root: Of the project's tree.

    Raises:
        ConfigurationError: The file of rows holds something else.
    """
    rows = read_rows(root / FILE, ChaosRow)
    cells = {(row.strike, row.state): row for row in rows}
    lines = [
        (title, *(_cell(cells.get((strike, state))) for state in STATES))
        for strike, title in STRIKES.items()
    ]
    table = markdown(("struck", *STATES), lines)
    return "\n".join((*table, "", *_summary(rows)))


def _cell(row: ChaosRow | None) -> str:
    if row is None:
        return NOT_MEASURED
    ended = number(row.ended_s, 1) or "never"
    verdict = f"{number(row.resumed_s, 1)} / {ended} s"
    if row.outcome != "completed":
        verdict = f"`{row.outcome}` {verdict}"
    if row.faults:
        verdict = f"**{', '.join(row.faults)}** {verdict}"
    return verdict


def _summary(rows: Sequence[ChaosRow]) -> Iterator[str]:
    if not rows:
        return
    others = [end for row in rows for end in row.bystanders]
    completed = sum(row.outcome == "completed" for row in rows)
    spared = sum(end == "completed" for end in others)
    again = sum(row.denoises_repeated for row in rows)
    yield f"Of {len(rows)} struck jobs {completed} were completed, of {len(others)} beside them"
    yield f"{spared}; denoised again after their latents existed: {again}."
    yield ""
    yield from _machines(rows)


def _machines(rows: Iterable[ChaosRow]) -> Iterator[str]:
    found = {(r.host_cpus, r.versions["ray"], r.date, r.commit) for r in rows}
    for cpus, ray, date, commit in sorted(found):
        yield f"On {cpus} CPU cores, Ray {ray}; {date}, commit `{commit}`."
