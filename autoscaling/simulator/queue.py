"""The clips that wait in a simulation, first come first served."""

from collections import deque
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from autoscaling.policy import Due
from autoscaling.report import DUE_EDGES_S
from autoscaling.simulator.trace import Floats, Trace


@dataclass(frozen=True, slots=True)
class Load:
    """What the gangs have to do when a clip comes or is taken.

    Args:
        now_s: The present.
        busy_s: Gang seconds that are left of the clips on the gangs.
        gangs: Gangs that take clips.
    """

    now_s: float
    busy_s: float
    gangs: int


class WaitingClips(Protocol):
    """Clips that have arrived and not started; `len` counts them."""

    gpu_s: float

    def __len__(self) -> int: ...

    @property
    def oldest_s(self) -> float: ...

    def arrive(self, load: Load) -> None: ...

    def take(self, load: Load) -> int: ...

    def put_back(self, job: int) -> None: ...

    def most_pressing(self, load: Load, ahead_gpu_s: float) -> tuple[Due, ...]: ...


class Queue:
    """The next of a trace's clips, behind those that came back.

    Args:
        trace: The clips.
        gang_size: GPUs that work on one.
    """

    def __init__(self, trace: Trace, gang_size: int) -> None:
        self.num_arrived = 0
        self.gpu_s = 0.0  # work of all that wait
        self._returned: deque[int] = deque()
        self._next = 0
        self._arrival_s = trace.arrival_s
        self._gpu_s = trace.gpu_s
        self._work_gpu_s: list[float] = trace.gpu_s.tolist()
        due_s = trace.due_s
        self._start_by_s = None if due_s is None else due_s - trace.gpu_s / gang_size

    def __len__(self) -> int:
        return len(self._returned) + self.num_arrived - self._next

    @property
    def oldest_s(self) -> float:
        """When the clip arrived that is the next one."""
        first = self._returned[0] if self._returned else self._next
        return float(self._arrival_s[first])

    def arrive(self, load: Load) -> None:
        """The trace's next clip is there."""
        self.gpu_s += self._work_gpu_s[self.num_arrived]
        self.num_arrived += 1

    def take(self, load: Load) -> int:
        """Removes the next clip."""
        if self._returned:
            job = self._returned.popleft()
        else:
            job = self._next
            self._next += 1
        self.gpu_s = self.gpu_s - self._work_gpu_s[job] if self else 0.0
        return job

    def put_back(self, job: int) -> None:
        """A clip whose gang was lost is the next one again."""
        self._returned.appendleft(job)
        self.gpu_s += self._work_gpu_s[job]

    def most_pressing(self, load: Load, ahead_gpu_s: float) -> tuple[Due, ...]:
        """What `autoscaling.report.most_pressing` makes of all that wait, over arrays.

        Args:
            load: The present.
            ahead_gpu_s: Work on the gangs.
        """
        if self._start_by_s is None or not len(self):
            return ()
        returned = np.array(self._returned, dtype=np.int64)
        waiting = np.concatenate([returned, np.arange(self._next, self.num_arrived)])
        start_in_s = self._start_by_s[waiting] - load.now_s
        ahead = ahead_gpu_s + np.concatenate([[0.0], np.cumsum(self._gpu_s[waiting])[:-1]])
        return pressing(start_in_s, ahead)


def pressing(start_in_s: Floats, ahead_gpu_s: Floats) -> tuple[Due, ...]:
    """Of clips with similar times to start, the one with the most work before it."""
    open_ = np.flatnonzero((start_in_s > 0) & np.isfinite(start_in_s))
    start_in_s, ahead_gpu_s = start_in_s[open_], ahead_gpu_s[open_]
    bins = np.digitize(start_in_s, DUE_EDGES_S, right=True)
    ratio = ahead_gpu_s / start_in_s
    chosen = []
    for index in np.unique(bins):
        members = np.flatnonzero(bins == index)
        most = members[np.argmax(ratio[members])]
        chosen.append(Due(float(start_in_s[most]), float(ahead_gpu_s[most])))
    return tuple(chosen)


def punctuality(trace: Trace, wait_s: Floats, gang_size: int) -> tuple[int, int]:
    """Clips with a deadline, and those of them that were done in time.

    Args:
        trace: The clips.
        wait_s: From each one's arrival to the start of its run, [N].
        gang_size: GPUs that worked on one.
    """
    if trace.due_s is None:
        return 0, 0
    with_deadline = np.isfinite(trace.due_s)
    ends_s = trace.arrival_s + wait_s + trace.gpu_s / gang_size
    # Rounding must not make a clip late that started at once.
    punctual = with_deadline & (ends_s <= trace.due_s + 1e-6)
    return int(with_deadline.sum()), int(punctual.sum())
