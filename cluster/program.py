"""The contract between a gang and the SPMD program its ranks run.

A factory is pickled to every rank and called there once; the program it builds stays for all
jobs of those ranks and may keep state between them (a healed gang starts from the factory
again). Nothing here imports torch: the owner of a gang is a light process.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol

from model.errors import LingBotError


@dataclass(frozen=True, slots=True)
class RankContext:
    """What a program may know of its rank; the process group is initialised.

    Args:
        rank: 0 to world_size - 1.
        world_size: Ranks of the gang.
        device: `"cuda:0"` (the rank sees only its own GPU) or `"cpu"`.
        ulysses_degree: Neighbouring ranks that share one sequence.
    """

    rank: int
    world_size: int
    device: str
    ulysses_degree: int


class Program(Protocol):
    """What every rank runs in lock-step."""

    def facts(self) -> object:
        """What the program chose at its start: small, plain, and on every rank the same."""
        ...

    def run(self, request: object) -> Generator[object, None, None]:
        """Works through one job, one item per step.

        Between two items the ranks agree whether to go on, so every rank must yield equally often.
        Rank 0's items go to the caller. A `LingBotError` raised on all ranks alike ends the job
        only; any other exception costs the gang its ranks.
        """
        ...


ProgramFactory = Callable[[RankContext], Program]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended on one rank: done, refused by the program (`error`), or broken (`failure`).

    Args:
        rank: Which.
        error: What the program raised on purpose.
        failure: Any other exception, in one line.
        rank_traceback: Of the failure.
        out_of_memory: Whether the failure is that memory ran out.
    """

    rank: int
    error: LingBotError | None = None
    failure: str | None = None
    rank_traceback: str = ""
    out_of_memory: bool = False


@dataclass(frozen=True, slots=True)
class RankReport:
    """A rank's answer to a ping: the job it runs or ran last, and items finished of it."""

    rank: int
    job_id: str | None
    num_items: int


def laggards(reports: list[RankReport | None], job_id: str) -> list[int]:
    """Ranks to blame for a stop, from one report per rank (None: no answer in time).

    Those that do not answer; if all answer, those with fewer items of the job than the foremost.
    """
    silent = [rank for rank, report in enumerate(reports) if report is None]
    if silent:
        return silent
    answers = [report for report in reports if report is not None]
    # A rank that is not at this job yet is behind one that has no item of it.
    items = {r.rank: r.num_items if r.job_id == job_id else -1 for r in answers}
    return [rank for rank, num_items in items.items() if num_items < max(items.values())]
