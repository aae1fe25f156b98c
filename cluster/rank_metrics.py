"""What a rank reports of itself, a few microseconds per step."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cluster.metrics import clear_gauge, count, set_gauge
from monitoring import gangs

_KIB = 1024


class RankMetrics:
    """One rank during one job; made where the job's first step begins.

    Args:
        gang: The gang's number.
        rank: This rank's.
    """

    def __init__(self, gang: str, rank: int) -> None:
        self._labels = {"gang": gang, "rank": str(rank)}
        self._moved_s = time.perf_counter()

    def step(self) -> None:
        """This rank has finished an item."""
        count(gangs.RANK_STEPS, 1, **self._labels)
        count(gangs.RANK_STEP_SECONDS, time.perf_counter() - self._moved_s, **self._labels)

    @contextmanager
    def boundary(self) -> Iterator[None]:
        """Around the code in which the ranks agree; the next step begins after it."""
        start_s = time.perf_counter()
        yield
        self._moved_s = time.perf_counter()
        count(gangs.RANK_WAIT_SECONDS, self._moved_s - start_s, **self._labels)

    def end(self, device: str) -> None:
        """The job is over on this rank, however it ended.

        Args:
            device: Where the program runs.
        """
        clear_gauge(gangs.RANK_MEMORY)
        set_gauge(gangs.RANK_MEMORY, peak_memory_bytes(device), **self._labels)


def peak_memory_bytes(device: str) -> int:
    """The most that this process has held: of its GPU, or of the host where it has none."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB
