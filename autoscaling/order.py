"""In which order waiting clips are taken: fair between keys, short ones first, deadlines kept.

A clip gets two tags when it is admitted and keeps them, so that a database can sort by an index
however long the queue is. Both count seconds of gang work, not time. The first is start-time fair
queueing (Goyal, Vin and Cheng, 1996) over flows, one for each key and priority: a flow's next clip
starts where its last one ended, and no earlier than what is being served now. The second adds a
multiple of the clip's own work, which lets short clips pass long ones by that much and no more.

Deadlines move a few: a clip that its turn would make late, and that can still be in time, goes
first, as long as nobody is passed by more than a multiple of his own work. Which ones is Moore and
Hodgson's rule: as many as possible. That looks at a bounded window of the queue, at a cost of
O(w log w) for w clips; the tags of a new clip cost two look-ups in indexes.
"""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

NORMAL = "normal"
# Shares, not ranks: of two flows that always have clips waiting, one gets so many times the work.
WEIGHTS: Mapping[str, float] = MappingProxyType({"low": 0.25, NORMAL: 1.0, "high": 4.0})
PRIORITIES = tuple(WEIGHTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderSettings:
    """How far the order may stray from the order of arrival.

    Args:
        short_first: A clip is passed by shorter ones of a flow for at most so many times its work.
        deadline_first: And for so many times more by clips that would be late otherwise.
        margin: Share of its time to start from which a clip counts as late in its turn, in (0, 1].
        window: Clips at the head of the queue that are looked at.
    """

    short_first: float = 16.0
    deadline_first: float = 16.0
    margin: float = 0.8
    window: int = 256

    def __post_init__(self) -> None:
        if self.short_first < 0 or self.deadline_first < 0:
            raise ValueError(f"short_first and deadline_first must not be negative: {self}")
        if not 0 < self.margin <= 1 or self.window < 1:
            raise ValueError(f"margin must lie in (0, 1] and window must be positive: {self}")


@dataclass(frozen=True, slots=True)
class Tags:
    """A clip's place, in seconds of gang work.

    Args:
        start: Where its flow's work before it ends.
        order: What the queue is sorted by.
    """

    start: float
    order: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """One clip of the queue.

    Args:
        number: Counts the clips as they come; the earlier of two equal ones goes first.
        tags: From `place`.
        predicted_s: Seconds that it will take a gang.
        priority: One of `PRIORITIES`.
        due_at_s: Unix time by which it should be done; None: whenever.
    """

    number: int
    tags: Tags
    predicted_s: float
    priority: str = NORMAL
    due_at_s: float | None = None

    def start_in_s(self, now_s: float) -> float:
        """Time that is left until a gang must start it; endless without a deadline."""
        return float("inf") if self.due_at_s is None else self.due_at_s - self.predicted_s - now_s


def place(
    *,
    served: float,
    flow_end: float | None,
    predicted_s: float,
    priority: str,
    settings: OrderSettings,
) -> Tags:
    """The tags of a new clip.

    Args:
        served: Start tag of the clip that is next, or of the last one where none waits.
        flow_end: `end_of` the flow's last clip; None without one.
        predicted_s: Seconds that the clip will take a gang.
        priority: One of `PRIORITIES`.
        settings: How far short clips may go ahead.
    """
    start = served if flow_end is None else max(served, flow_end)
    return Tags(start, start + settings.short_first * predicted_s / WEIGHTS[priority])


def end_of(start: float, predicted_s: float, priority: str) -> float:
    """Where the next clip of a flow may start: heavier flows come forward more slowly."""
    return start + predicted_s / WEIGHTS[priority]


def in_order(
    window: Iterable[Waiting], *, now_s: float, busy_s: float, gangs: int, settings: OrderSettings
) -> list[Waiting]:
    """The order in which clips are to be taken as things stand.

    Args:
        window: The clips with the lowest order tags, in any order.
        now_s: Unix time.
        busy_s: Gang seconds of the clips that are handed over and not done.
        gangs: Gangs that share all work.
        settings: How far clips with a deadline may go ahead.
    """
    by_tag = sorted(window, key=lambda each: (each.tags.order, each.number))
    would_be_late = _late_in_turn(by_tag, now_s, busy_s / gangs, gangs, settings.margin)
    if not would_be_late:
        return by_tag
    others = (each for each in by_tag if each.number not in would_be_late)
    limit = min((_patience_ends(each, settings) for each in others), default=float("inf"))
    reach = [each for each in would_be_late.values() if each.tags.start <= limit]
    first = _most_in_time(reach, now_s, busy_s / gangs, gangs)
    moved = {each.number for each in first}
    return [*first, *(each for each in by_tag if each.number not in moved)]


def starts(
    work_s: Sequence[float], busy_s: Sequence[float], gangs: int
) -> tuple[list[float], float]:
    """When clips start if gangs take them one after the other.

    Args:
        work_s: What each takes, in their order.
        busy_s: What is left of the clips on the gangs, in the order in which those took them.
        gangs: How many there are, at least one.

    Returns:
        Seconds from now until each starts, and until one more behind them would.
    """
    free_s = [0.0] * gangs
    for left_s in busy_s:
        heapq.heapreplace(free_s, free_s[0] + left_s)
    begin_s = []
    for needs_s in work_s:
        begin_s.append(free_s[0])
        heapq.heapreplace(free_s, free_s[0] + needs_s)
    return begin_s, free_s[0]


def _late_in_turn(
    by_tag: Sequence[Waiting], now_s: float, busy_s: float, gangs: int, margin: float
) -> dict[int, Waiting]:
    """Clips that could be in time, but not if they wait for their turn."""
    late, ahead_s = {}, busy_s
    for each in by_tag:
        start_in_s = each.start_in_s(now_s)
        if busy_s <= start_in_s and ahead_s > margin * start_in_s:
            late[each.number] = each
        ahead_s += each.predicted_s / gangs
    return late


def _patience_ends(each: Waiting, settings: OrderSettings) -> float:
    """The start tag up to which clips with a deadline may pass this one."""
    work = each.predicted_s / WEIGHTS[each.priority]
    return each.tags.order + settings.deadline_first * work


def _most_in_time(
    clips: Sequence[Waiting], now_s: float, busy_s: float, gangs: int
) -> list[Waiting]:
    """The most clips that can all be in time, least slack first; the others would be late."""
    kept: list[tuple[float, int, Waiting]] = []  # a heap, the longest first
    ends_s = busy_s
    for each in sorted(clips, key=lambda each: (each.start_in_s(now_s), each.number)):
        heapq.heappush(kept, (-each.predicted_s, -each.number, each))
        ends_s += each.predicted_s / gangs
        if ends_s > each.start_in_s(now_s) + each.predicted_s / gangs:
            ends_s -= heapq.heappop(kept)[2].predicted_s / gangs
    chosen = (each for _, _, each in kept)
    return sorted(chosen, key=lambda each: (each.start_in_s(now_s), each.number))
