"""The clips that wait in a simulation, in the order in which gateways claim them."""

import math
from bisect import insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoscaling.order import OrderSettings, Waiting, end_of, in_order, place
from autoscaling.policy import Due
from autoscaling.simulator.queue import Load, pressing
from autoscaling.simulator.trace import Trace


@dataclass(frozen=True, slots=True)
class Asked:
    """What decides about a clip's place beside its arrival and its deadline.

    Args:
        key: Whose it is.
        priority: One of `autoscaling.order.PRIORITIES`.
        predicted_s: Seconds on a gang as they were predicted when it came.
    """

    key: str
    priority: str
    predicted_s: float


class OrderedQueue:
    """Clips that wait for their turn, and those that were handed over for the gangs to take next.

    Args:
        trace: The clips.
        asked: What was asked with each, [N].
        settings: Of the order.
        gang_size: GPUs that work on one.
    """

    def __init__(
        self, trace: Trace, asked: Sequence[Asked], settings: OrderSettings, gang_size: int
    ) -> None:
        self.num_arrived = 0
        self.gpu_s = 0.0  # work of all that wait
        self._trace, self._asked, self._settings = trace, asked, settings
        self._gang_size = gang_size
        self._waiting: list[tuple[float, int, Waiting]] = []
        self._handed_over: deque[int] = deque()
        self._flow_ends: dict[tuple[str, str], float] = {}
        self._served = 0.0
        self._tagged: dict[int, Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._handed_over)

    @property
    def oldest_s(self) -> float:
        """When the clip arrived that is the next one."""
        first = self._handed_over[0] if self._handed_over else self._waiting[0][1]
        return float(self._trace.arrival_s[first])

    def arrive(self, load: Load) -> None:
        """The trace's next clip is there."""
        job = self.num_arrived
        self.num_arrived += 1
        self.gpu_s += float(self._trace.gpu_s[job])
        asked = self._asked[job]
        flow = asked.key, asked.priority
        tags = place(
            served=self._waiting[0][2].tags.start if self._waiting else self._served,
            flow_end=self._flow_ends.get(flow),
            predicted_s=asked.predicted_s,
            priority=asked.priority,
            settings=self._settings,
        )
        self._flow_ends[flow] = end_of(tags.start, asked.predicted_s, asked.priority)
        due_s = math.inf if self._trace.due_s is None else float(self._trace.due_s[job])
        due_at_s = due_s if math.isfinite(due_s) else None
        waiting = Waiting(job, tags, asked.predicted_s, asked.priority, due_at_s)
        self._tagged[job] = waiting
        insort(self._waiting, (tags.order, job, waiting))
        self._hand_over(load)

    def take(self, load: Load) -> int:
        """Removes the next clip."""
        self._hand_over(load)
        job = self._handed_over.popleft()
        self.gpu_s = self.gpu_s - float(self._trace.gpu_s[job]) if self else 0.0
        self._hand_over(load)
        return job

    def put_back(self, job: int) -> None:
        """A clip whose gang was lost waits again, with its tags."""
        waiting = self._tagged[job]
        insort(self._waiting, (waiting.tags.order, job, waiting))
        self.gpu_s += float(self._trace.gpu_s[job])

    def most_pressing(self, now_s: float, ahead_gpu_s: float) -> tuple[Due, ...]:
        """What `autoscaling.report.most_pressing` makes of all that wait, over arrays.

        Args:
            now_s: The present.
            ahead_gpu_s: Work on the gangs.
        """
        if self._trace.due_s is None or not len(self):
            return ()
        order = np.array([*self._handed_over, *(job for _, job, _ in self._waiting)])
        gpu_s = self._trace.gpu_s[order]
        start_in_s = self._trace.due_s[order] - gpu_s / self._gang_size - now_s
        ahead = ahead_gpu_s + np.concatenate([[0.0], np.cumsum(gpu_s)[:-1]])
        return pressing(start_in_s, ahead)

    def _hand_over(self, load: Load) -> None:
        """Fills up what the pipeline holds for its gangs beside what they work on."""
        limit = load.gangs + 2 if load.gangs else 0
        while self._waiting and len(self._handed_over) < limit:
            handed_s = sum(self._asked[job].predicted_s for job in self._handed_over)
            head = self._waiting[: self._settings.window]
            chosen = in_order(
                [each for _, _, each in head],
                now_s=load.now_s,
                busy_s=load.busy_s + handed_s,
                gangs=load.gangs,
                settings=self._settings,
            )[0]
            self._waiting.remove((chosen.tags.order, chosen.number, chosen))
            self._served = max(self._served, chosen.tags.start)
            self._handed_over.append(chosen.number)
