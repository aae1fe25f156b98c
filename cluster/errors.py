"""Errors of a gang of ranks; they pickle, because they cross Ray processes.

model.errors.LingBotError
└── GangError              our fault, not the caller's: the gang was lost or never came up
    ├── GangStartError     some ranks did not become ready in time
    ├── RankDiedError      a rank's process ended in mid-job
    ├── RankFailedError    the program raised on some rank
    ├── RankOutOfMemoryError  a rank's memory ran out
    ├── StepTimeoutError   no step was finished before the deadline
    ├── GangDiedError      the gang's owner ended, and the ranks with it
    ├── GangHealingError   the gang takes no job as it replaces its ranks
    └── GangStoppedError   the gang was stopped, or given up after failed restarts
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from model.errors import LingBotError


class GangError(LingBotError):
    """Base of everything that costs a gang its ranks.

    Attributes:
        code: The cause in one word, for logs, metrics and clients.
        ranks: The ranks to blame, where that is known.
    """

    code: ClassVar[str] = "gang_failed"
    ranks: tuple[int, ...] = ()


class GangStartError(GangError):
    """Not every rank became ready; none is left running.

    Args:
        rank_errors: What each rank that is not ready said, by rank.
    """

    code = "gang_start_failed"

    def __init__(self, rank_errors: Mapping[int, str]) -> None:
        self.rank_errors = dict(rank_errors)
        self.ranks = tuple(self.rank_errors)
        super().__init__(self.rank_errors)

    def __str__(self) -> str:
        listing = "\n".join(f"  rank {rank}: {text}" for rank, text in self.rank_errors.items())
        return f"the gang did not start:\n{listing}"


class RankDiedError(GangError):
    """The processes of some ranks ended.

    Args:
        ranks: Those ranks.
    """

    code = "rank_died"

    def __init__(self, ranks: Sequence[int]) -> None:
        self.ranks = tuple(ranks)
        super().__init__(self.ranks)

    def __str__(self) -> str:
        return f"the process of {_name(self.ranks)} died"


class RankFailedError(GangError):
    """The program raised on a rank, so that the other ranks may hang in a collective.

    Args:
        rank: The rank that raised, or the first of them.
        problem: The exception, in one line.
        rank_traceback: The traceback as the rank saw it.
    """

    code = "rank_failed"

    def __init__(self, rank: int, problem: str, rank_traceback: str = "") -> None:
        super().__init__(rank, problem, rank_traceback)
        self.rank = rank
        self.ranks = (rank,)
        self.problem = problem
        self.rank_traceback = rank_traceback

    def __str__(self) -> str:
        return f"rank {self.rank} failed: {self.problem}\n{self.rank_traceback}".rstrip()


class RankOutOfMemoryError(RankFailedError):
    """The memory of a rank did not suffice for the job."""

    code = "out_of_memory"

    def __str__(self) -> str:
        return f"rank {self.rank} ran out of memory\n{self.problem}\n{self.rank_traceback}".rstrip()


class StepTimeoutError(GangError):
    """No rank 0 item arrived before the step deadline.

    Args:
        stuck: Ranks that do not answer or are behind the others; empty if all stand level.
        after_s: Seconds since the last progress.
    """

    code = "step_timeout"

    def __init__(self, stuck: Sequence[int], after_s: float) -> None:
        self.stuck = self.ranks = tuple(stuck)
        self.after_s = after_s
        super().__init__(self.stuck, after_s)

    def __str__(self) -> str:
        who = f"{_name(self.stuck)} stuck" if self.stuck else "every rank answers and is level"
        return f"no step was finished for {self.after_s:.1f} s: {who}"


class GangDiedError(GangError):
    """The gang is gone as a whole; the message says how that was noticed."""

    code = "gang_died"


class GangHealingError(GangError):
    """The gang replaces its ranks; the message says why."""

    code = "gang_healing"


class GangStoppedError(GangError):
    """The gang takes no more jobs; the message says why."""

    code = "gang_stopped"


def _name(ranks: Sequence[int]) -> str:
    plural = "s" if len(ranks) > 1 else ""
    return f"rank{plural} {', '.join(map(str, ranks))}"
