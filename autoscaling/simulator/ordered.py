"""The clips that wait in a simulation, in the order in which gateways claim them."""

import math
from collections import deque

import numpy as np

from autoscaling.order import NORMAL, OrderSettings, Waiting, end_of, in_order, place
from autoscaling.policy import Due
from autoscaling.simulator.by_tag import ClipsByTag
from autoscaling.simulator.queue import Load, pressing
from autoscaling.simulator.trace import Floats, Ints, Trace


class OrderedQueue:
    """Clips that wait for their turn, and those that were handed over for the gangs to take next.

    Args:
        trace: The clips.
        settings: Of the order.
        gang_size: GPUs that work on one.
    """

    def __init__(self, trace: Trace, settings: OrderSettings, gang_size: int) -> None:
        self.num_arrived = 0
        self.gpu_s = 0.0  # work of all that wait
        self._trace, self._settings, self._gang_size = trace, settings, gang_size
        self._predicted_s = _predicted_s(trace, gang_size)
        due_s = np.full(len(trace), np.inf) if trace.due_s is None else trace.due_s
        self._start_by_s = due_s - self._predicted_s
        self._by_tag = ClipsByTag()
        self._waiting: dict[int, Waiting] = {}
        self._handed_over: deque[int] = deque()
        self._handed_s = 0.0  # predicted work of those
        self._start_tags = np.empty(len(trace))
        self._flow_ends: dict[tuple[str, str], float] = {}
        self._served = 0.0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._handed_over)

    @property
    def oldest_s(self) -> float:
        """When the clip arrived that is the next one."""
        first = self._handed_over[0] if self._handed_over else self._by_tag.numbers[0]
        return float(self._trace.arrival_s[first])

    def arrive(self, load: Load) -> None:
        """The trace's next clip is there."""
        number = self.num_arrived
        self.num_arrived += 1
        self.gpu_s += float(self._trace.gpu_s[number])
        key, priority = self._flow(number)
        clip = self._placed(number, self._next_start(), self._flow_ends.get((key, priority)))
        self._start_tags[number] = clip.tags.start
        self._flow_ends[key, priority] = end_of(clip.tags.start, clip.predicted_s, priority)
        if self._waiting or self._room(load) <= 0:
            self._wait(clip)
            self._hand_over(load)
        else:  # its turn is at once
            self._hand(clip)

    def take(self, load: Load) -> int:
        """Removes the next clip."""
        self._hand_over(load)
        number = self._handed_over.popleft()
        left_s = self._handed_s - float(self._predicted_s[number])
        self._handed_s = left_s if self._handed_over else 0.0
        self.gpu_s = self.gpu_s - float(self._trace.gpu_s[number]) if self else 0.0
        self._hand_over(load)
        return number

    def put_back(self, job: int) -> None:
        """A clip whose gang was lost waits again, with its tags."""
        self._wait(self._placed(job, float(self._start_tags[job]), None))
        self.gpu_s += float(self._trace.gpu_s[job])

    def most_pressing(self, load: Load, ahead_gpu_s: float) -> tuple[Due, ...]:
        """What `autoscaling.report.most_pressing` makes of all that wait, over arrays.

        Args:
            load: The present.
            ahead_gpu_s: Work on the gangs.
        """
        if self._trace.due_s is None or not len(self):
            return ()
        handed_over = np.array(self._handed_over, dtype=np.int64)
        behind = self._by_tag.numbers[self._settings.window :]
        order = np.concatenate([handed_over, self._head_in_order(load), behind])
        gpu_s = self._trace.gpu_s[order]
        start_in_s = self._trace.due_s[order] - gpu_s / self._gang_size - load.now_s
        ahead = ahead_gpu_s + np.concatenate([[0.0], np.cumsum(gpu_s)[:-1]])
        return pressing(start_in_s, ahead)

    def _wait(self, clip: Waiting) -> None:
        self._waiting[clip.number] = clip
        self._by_tag.add(clip.tags.order, clip.number)

    def _placed(self, number: int, served: float, flow_end: float | None) -> Waiting:
        predicted_s, (_, priority) = float(self._predicted_s[number]), self._flow(number)
        tags = place(
            served=served,
            flow_end=flow_end,
            predicted_s=predicted_s,
            priority=priority,
            settings=self._settings,
        )
        due_s = math.inf if self._trace.due_s is None else float(self._trace.due_s[number])
        due_at_s = due_s if math.isfinite(due_s) else None
        return Waiting(number, tags, predicted_s, priority, due_at_s)

    def _flow(self, number: int) -> tuple[str, str]:
        if self._trace.asked is None:
            return "", NORMAL
        asked = self._trace.asked[number]
        return asked.key, asked.priority

    def _next_start(self) -> float:
        """Start tag of the clip that is next, or of the last one where none waits."""
        if not self._waiting:
            return self._served
        return self._waiting[int(self._by_tag.numbers[0])].tags.start

    def _hand_over(self, load: Load) -> None:
        """Fills up what the pipeline holds for its gangs beside what they work on."""
        room = self._room(load) if self._waiting else 0
        if room <= 0:
            return
        for number in self._head_in_order(load)[:room].tolist():
            clip = self._waiting.pop(number)
            self._by_tag.remove(clip.tags.order, number)
            self._hand(clip)

    def _room(self, load: Load) -> int:
        return load.gangs + 2 - len(self._handed_over) if load.gangs else 0

    def _hand(self, clip: Waiting) -> None:
        self._served = max(self._served, clip.tags.start)
        self._handed_over.append(clip.number)
        self._handed_s += clip.predicted_s

    def _head_in_order(self, load: Load) -> Ints:
        """The clips that the gateway looks at, in the order in which it would hand them over."""
        head = self._by_tag.numbers[: self._settings.window].copy()
        gangs, busy_s = max(1, load.gangs), load.busy_s + self._handed_s
        if not self._some_late_in_turn(head, load.now_s, busy_s / gangs, gangs):
            return head
        ordered = in_order(
            [self._waiting[number] for number in head.tolist()],
            now_s=load.now_s,
            busy_s=busy_s,
            gangs=gangs,
            settings=self._settings,
        )
        return np.array([each.number for each in ordered], dtype=np.int64)

    def _some_late_in_turn(self, head: Ints, now_s: float, busy_s: float, gangs: int) -> bool:
        """Whether `in_order` would move a clip; over arrays, as it mostly would not."""
        if self._trace.due_s is None:
            return False
        start_in_s = self._start_by_s[head] - now_s
        steps_s = np.concatenate([[busy_s], self._predicted_s[head] / gangs])
        ahead_s = np.cumsum(steps_s)[:-1]
        late = (busy_s <= start_in_s) & (ahead_s > self._settings.margin * start_in_s)
        return bool(late.any())


def _predicted_s(trace: Trace, gang_size: int) -> Floats:
    if trace.asked is None:
        return trace.gpu_s / gang_size
    return np.array([asked.predicted_s for asked in trace.asked])
