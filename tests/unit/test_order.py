"""The order of waiting clips: shares, bounded passing, deadlines."""

import math

import numpy as np
import pytest

from autoscaling.order import (
    NORMAL,
    OrderSettings,
    Tags,
    Waiting,
    end_of,
    in_order,
    place,
    starts,
)
from autoscaling.simulator.by_tag import ClipsByTag
from autoscaling.simulator.controllers import FixedController
from autoscaling.simulator.engine import FleetSettings, Outcome, simulate
from autoscaling.simulator.ordered import OrderedQueue
from autoscaling.simulator.queue import Load
from autoscaling.simulator.trace import Asked, Trace

SETTINGS = OrderSettings()


def run(
    clips: list[tuple[str, str, float]],
    *,
    arrival_s: list[float] | None = None,
    due_s: list[float] | None = None,
    gangs: int = 1,
    settings: OrderSettings = SETTINGS,
) -> Outcome:
    """Takes clips of (key, priority, seconds) to some gangs."""
    work_s = np.array([seconds for _, _, seconds in clips])
    trace = Trace(
        np.zeros(len(clips)) if arrival_s is None else np.array(arrival_s),
        work_s,
        None if due_s is None else np.array(due_s),
        [Asked(key, priority, seconds) for key, priority, seconds in clips],
    )
    fleet = FleetSettings(num_gpus=gangs, gang_size=1, node_gpus=1, warm_gangs=gangs)
    return simulate(trace, fleet, FixedController(gangs), order=settings)


def waiting(number: int, start: float, seconds: float, due_at_s: float | None = None) -> Waiting:
    tags = Tags(start, start + SETTINGS.short_first * seconds)
    return Waiting(number, tags, seconds, NORMAL, due_at_s)


def numbers(clips: list[Waiting], *, now_s: float = 0.0, busy_s: float = 0.0) -> list[int]:
    ordered = in_order(clips, now_s=now_s, busy_s=busy_s, gangs=1, settings=SETTINGS)
    return [clip.number for clip in ordered]


def test_a_thousand_clips_of_one_key_do_not_hold_up_anothers_one() -> None:
    crowd = [("crowd", NORMAL, 1.0)] * 1000
    waits_s = run([*crowd, ("one", NORMAL, 1.0)]).wait_s
    # What was handed over before it came, and clips that began at the same place.
    assert waits_s[-1] <= 5


@pytest.mark.parametrize(("rival", "share"), [("high", 0.2), ("normal", 0.5), ("low", 0.8)])
def test_keys_with_clips_waiting_share_the_work_by_priority(rival: str, share: float) -> None:
    clips = [("a", NORMAL, 1.0), ("b", rival, 1.0)] * 200
    waits_s = run(clips, settings=OrderSettings(short_first=0, deadline_first=0)).wait_s
    mine, others = waits_s[::2], waits_s[1::2]
    while_both_wait_s = 100.0
    taken = (mine < while_both_wait_s).sum()
    assert taken / (taken + (others < while_both_wait_s).sum()) == pytest.approx(share, abs=0.05)


def test_short_clips_pass_long_ones_but_not_without_end() -> None:
    # A new short one comes whenever one is done: shortest first would never take the long one.
    clips = [*[("", NORMAL, 1.0)] * 10, ("", NORMAL, 8.0), *[("", NORMAL, 1.0)] * 400]
    arrival_s = [*[0.0] * 11, *(0.9 * n for n in range(400))]
    long_wait_s = run(clips, arrival_s=arrival_s).wait_s[10]
    assert 50 < long_wait_s < SETTINGS.short_first * 8 + 10


def test_an_endless_crowd_of_keys_with_deadlines_starves_nobody() -> None:
    clips = [("victim", NORMAL, 4.0)]
    clips += [(f"key-{n % 5}", NORMAL, 1.0) for n in range(1000)]
    arrival_s = [0.9 * n for n in range(1001)]
    due_s = [math.inf, *(at + 20.0 for at in arrival_s[1:])]
    waits_s = run([*[("x", NORMAL, 1.0)] * 4, *clips], arrival_s=[0.0] * 4 + arrival_s,
                  due_s=[math.inf] * 4 + due_s).wait_s  # fmt: skip
    bound = (SETTINGS.short_first + SETTINGS.deadline_first) * 4.0
    assert waits_s[4] <= 5 * bound + 10


def test_a_clip_that_its_turn_would_make_late_goes_first() -> None:
    crowd = [waiting(n, 2.0 * n, 2.0) for n in range(10)]
    assert numbers([*crowd, waiting(10, 20.0, 2.0, due_at_s=7.0)])[0] == 10


def test_a_clip_with_time_left_passes_nobody() -> None:
    crowd = [waiting(n, 2.0 * n, 2.0) for n in range(10)]
    assert numbers([*crowd, waiting(10, 20.0, 2.0, due_at_s=100.0)]) == list(range(11))


def test_a_clip_that_is_late_anyway_passes_nobody() -> None:
    crowd = [waiting(n, 2.0 * n, 2.0) for n in range(10)]
    late = waiting(10, 20.0, 2.0, due_at_s=1.0)
    assert numbers([*crowd, late]) == list(range(11))
    # The gangs are busy for longer than there is time.
    assert numbers([*crowd, waiting(10, 20.0, 2.0, due_at_s=7.0)], busy_s=6.0) == list(range(11))


def test_least_slack_goes_first_and_the_most_clips_are_in_time() -> None:
    crowd = [waiting(n, 2.0 * n, 2.0) for n in range(10)]
    long = waiting(20, 20.0, 6.0, due_at_s=7.0)
    soon, later = waiting(21, 26.0, 2.0, due_at_s=5.0), waiting(22, 28.0, 2.0, due_at_s=4.5)
    # All three cannot be in time; without the long one, the other two are.
    assert numbers([*crowd, long, soon, later])[:2] == [22, 21]


def test_a_flow_starts_where_its_last_clip_ended_or_where_the_queue_is() -> None:
    def start(flow_end: float | None, priority: str = NORMAL) -> float:
        return place(
            served=10.0, flow_end=flow_end, predicted_s=2.0, priority=priority, settings=SETTINGS
        ).start

    assert (start(None), start(4.0), start(14.0)) == (10.0, 10.0, 14.0)
    assert end_of(10.0, 2.0, "high") < end_of(10.0, 2.0, NORMAL) < end_of(10.0, 2.0, "low")


def test_the_simulated_queue_takes_what_the_whole_order_names_next() -> None:
    """Its short cuts over arrays change nothing: as many times as chance finds a difference."""
    rng = np.random.default_rng(11)
    num_clips = 400
    arrival_s = np.sort(rng.uniform(0, 200, num_clips))
    work_s = rng.choice([1.0, 2.0, 8.0], num_clips)
    due_s = arrival_s + work_s + rng.choice([4.0, 40.0, math.inf], num_clips)
    keys, priorities = rng.choice(["a", "b"], num_clips), rng.choice(["low", "high"], num_clips)
    asked = [Asked(*each) for each in zip(keys, priorities, work_s.tolist(), strict=True)]
    queue = OrderedQueue(Trace(arrival_s, work_s, due_s, asked), SETTINGS, 1)
    expected, moved = PlainQueue(asked, due_s), 0
    taken: list[int] = []
    while queue or queue.num_arrived < num_clips:
        load = Load(float(arrival_s[min(queue.num_arrived, num_clips - 1)]), rng.uniform(0, 20), 3)
        if queue.num_arrived < num_clips and rng.random() < 0.6:
            expected.arrive(queue.num_arrived, load)
            queue.arrive(load)
        elif queue:
            moved += expected.moves_some(load)
            taken.append(queue.take(load))
            assert taken[-1] == expected.take(load)
        if taken and rng.random() < 0.05:
            expected.put_back(taken[-1])
            queue.put_back(taken.pop())
    assert len(set(taken)) == num_clips
    assert moved > 20


class PlainQueue:
    """The order as it is defined: all of it, each time."""

    def __init__(self, asked: list[Asked], due_s: np.ndarray) -> None:
        self._asked, self._due_s = asked, due_s
        self._clips: dict[int, Waiting] = {}
        self._waiting: list[Waiting] = []
        self._handed_over: list[Waiting] = []
        self._ends: dict[tuple[str, str], float] = {}
        self._served = 0.0

    def arrive(self, number: int, load: Load) -> None:
        asked, first = self._asked[number], self._by_tag()
        flow = asked.key, asked.priority
        tags = place(
            served=first[0].tags.start if first else self._served,
            flow_end=self._ends.get(flow),
            predicted_s=asked.predicted_s,
            priority=asked.priority,
            settings=SETTINGS,
        )
        self._ends[flow] = end_of(tags.start, asked.predicted_s, asked.priority)
        due_at_s = float(self._due_s[number]) if math.isfinite(self._due_s[number]) else None
        clip = Waiting(number, tags, asked.predicted_s, asked.priority, due_at_s)
        self._clips[number] = clip
        self._waiting.append(clip)
        self._hand_over(load)

    def take(self, load: Load) -> int:
        self._hand_over(load)
        clip = self._handed_over.pop(0)
        self._hand_over(load)
        return clip.number

    def put_back(self, number: int) -> None:
        self._waiting.append(self._clips[number])

    def moves_some(self, load: Load) -> bool:
        return self._ordered(load) != self._by_tag()

    def _by_tag(self) -> list[Waiting]:
        return sorted(self._waiting, key=lambda clip: (clip.tags.order, clip.number))

    def _ordered(self, load: Load) -> list[Waiting]:
        handed_s = sum(clip.predicted_s for clip in self._handed_over)
        return in_order(
            self._by_tag()[: SETTINGS.window],
            now_s=load.now_s,
            busy_s=load.busy_s + handed_s,
            gangs=load.gangs,
            settings=SETTINGS,
        )

    def _hand_over(self, load: Load) -> None:
        free = load.gangs + 2 - len(self._handed_over)
        for clip in self._ordered(load)[: max(0, free)]:
            self._waiting.remove(clip)
            self._handed_over.append(clip)
            self._served = max(self._served, clip.tags.start)


def test_clips_are_kept_by_tag_however_they_come_and_go() -> None:
    rng = np.random.default_rng(3)
    kept, clips = ClipsByTag(), []
    for number in range(5000):
        clips.append((float(rng.integers(0, 50)), number))
        kept.add(*clips[-1])
        if rng.random() < 0.6:
            clips.sort()
            kept.remove(*clips.pop(int(rng.integers(0, len(clips)))))
    assert kept.numbers.tolist() == [number for _, number in sorted(clips)]
    assert len(kept) == len(clips)


def test_gangs_take_clips_as_they_become_free() -> None:
    begin_s, behind_s = starts([3.0, 1.0, 1.0], busy_s=[5.0, 2.0], gangs=2)
    assert begin_s == [2.0, 5.0, 5.0]
    assert behind_s == 6.0
    assert starts([], [], 3) == ([], 0.0)


@pytest.mark.parametrize(
    "wrong", [{"short_first": -1}, {"deadline_first": -1}, {"margin": 0}, {"window": 0}]
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        OrderSettings(**wrong)  # type: ignore[arg-type]
