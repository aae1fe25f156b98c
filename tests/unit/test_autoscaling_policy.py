"""Decisions as tables of cases: what is known, and how many gangs follow."""

from dataclasses import replace
from itertools import pairwise

import pytest

from autoscaling.followers import FollowerSettings, follow
from autoscaling.policy import Cause, Due, GangSettings, Signal, State, decide

SETTINGS = GangSettings(
    gpus_per_gang=8,
    drain_target_s=100,
    cold_start_s=50,
    idle_to_zero_s=300,
    deadline_share=1.0,
    max_step_up=4,
    max_step_down=2,
)
QUIET = Signal(
    now_s=0.0,
    running_gangs=0,
    target_gangs=0,
    busy_gangs=0,
    work_gpu_s=0.0,
    num_clips=0,
    min_gangs=0,
    max_gangs=10,
)
CLIP_GPU_S = 800.0


def signal(
    running: int,
    *,
    target: int | None = None,
    busy: int | None = None,
    held_gpu_s: float = 0.0,
    queued: int = 0,
    **known: object,
) -> Signal:
    """So many gangs run, all of them busy unless said otherwise, with some clips behind them."""
    busy = running if busy is None else busy
    defaults = {
        "busy_gangs": busy,
        "target_gangs": running if target is None else target,
        "work_gpu_s": held_gpu_s + queued * CLIP_GPU_S,
        "num_clips": busy + queued,
    }
    return replace(QUIET, running_gangs=running, **(defaults | known))


def watched(seen: Signal, seconds: float, *, settings: GangSettings = SETTINGS) -> list[int]:
    """The gangs wanted each 10 s of a constant signal, the target following the decision."""
    state, wanted = State(), []
    for tick in range(int(seconds / 10) + 1):
        decision = decide(replace(seen, now_s=10.0 * tick), state, settings)
        state = decision.state
        wanted.append(decision.gangs)
        seen = replace(seen, target_gangs=decision.gangs, running_gangs=decision.gangs)
    return wanted


@pytest.mark.parametrize(
    ("seen", "gangs", "reason"),
    [
        (signal(0), 0, "steady"),
        (signal(0, queued=1), 1, "0 -> 1: 1 drain it in 100 s"),
        (signal(0, queued=3), 3, "0 -> 3: 3 drain it"),
        # The gang works 50 s before a second could help, and 100 s after: 1200 GPU-seconds.
        (signal(1, held_gpu_s=400, queued=1), 1, "steady"),
        (signal(1, held_gpu_s=400, queued=2), 2, "1 -> 2: 2 drain it in 100 s"),
        (signal(2, held_gpu_s=0, queued=5), 4, "2 -> 4: 4 drain it"),
        # Gangs that load count as wanted, not as running.
        (signal(1, target=3, held_gpu_s=400, queued=2), 3, "steady"),
        (signal(1, held_gpu_s=400, queued=50), 5, "1 -> 5: 50 drain it"),
        (signal(8, held_gpu_s=400, queued=50), 10, "8 -> 10"),
        (signal(10, held_gpu_s=4000, queued=90), 10, "at max 10, 90 wanted"),
        # One long clip cannot be shared, however much work it is.
        (signal(1, held_gpu_s=100_000), 1, "steady"),
        (signal(0, min_gangs=2), 2, "0 -> 2: below min 2"),
        (signal(4, max_gangs=3), 3, "4 -> 3: above max 3"),
        (signal(3, busy=0, min_gangs=3), 3, "steady"),
    ],
)
def test_first_decision(seen, gangs, reason):
    decision = decide(seen, State(), SETTINGS)
    assert decision.gangs == gangs
    assert decision.reason.startswith(reason)
    assert decision.reason.endswith(f"on {seen.running_gangs} running gangs")


# A gang works 50 s before a second could help; what is left then has 150 s.
PRESSING = Due(start_in_s=200, ahead_gpu_s=8 * (50 + 3 * 150))


@pytest.mark.parametrize(
    ("due", "gangs", "cause"),
    [
        ((), 1, Cause.STEADY),
        ((PRESSING,), 3, Cause.DEADLINE),
        # Nothing that is done now makes this one punctual, nor needs this one any help.
        ((Due(start_in_s=40, ahead_gpu_s=4000),), 1, Cause.STEADY),
        ((Due(start_in_s=9000, ahead_gpu_s=4000),), 1, Cause.STEADY),
        ((Due(start_in_s=9000, ahead_gpu_s=4000), PRESSING), 3, Cause.DEADLINE),
    ],
)
def test_deadlines_add_gangs_where_they_help(due, gangs, cause):
    lazy = replace(SETTINGS, drain_target_s=100_000)
    decision = decide(signal(1, held_gpu_s=400, queued=9, due=due), State(), lazy)
    assert (decision.gangs, decision.cause) == (gangs, cause)


def test_deadlines_are_planned_with_room():
    seen = signal(1, held_gpu_s=400, queued=9, due=(PRESSING,))
    careful = replace(SETTINGS, drain_target_s=100_000, deadline_share=0.7)
    assert decide(seen, State(), careful).gangs == 5
    assert "5 start a clip that is due in 200 s" in decide(seen, State(), careful).reason


def test_deadlines_keep_gangs():
    lazy = replace(SETTINGS, drain_target_s=100_000)
    # Two gangs clear the way in time, and three are there.
    due = (Due(start_in_s=200, ahead_gpu_s=8 * 400),)
    seen = signal(3, busy=1, held_gpu_s=400, queued=9, due=due)
    assert watched(seen, 80, settings=lazy)[-1] == 2


def test_more_gangs_than_clips_help_nobody():
    due = (Due(start_in_s=60, ahead_gpu_s=80_000),)
    assert decide(signal(0, queued=3, due=due), State(), SETTINGS).gangs == 3


def test_cold_start_delays_growth():
    seen = signal(1, held_gpu_s=400, queued=2)
    assert decide(seen, State(), SETTINGS).gangs == 2
    assert decide(seen, State(), replace(SETTINGS, cold_start_s=200)).gangs == 1


def test_growth_goes_in_steps_with_time_between():
    seen = signal(0, queued=9)
    first = decide(seen, State(), SETTINGS)
    assert first.gangs == 4
    soon = replace(seen, now_s=5.0, target_gangs=4)
    assert decide(soon, first.state, SETTINGS).gangs == 4
    assert "changed less than 10 s ago" in decide(soon, first.state, SETTINGS).reason
    assert decide(replace(soon, now_s=10.0), first.state, SETTINGS).gangs == 8


def test_surplus_is_released_after_the_patience_in_steps():
    # One busy gang of five; the patience is the cold start, 50 s.
    seen = signal(5, held_gpu_s=100, busy=1)
    assert watched(seen, 80) == [5, 5, 5, 5, 5, 3, 1, 1, 1]


def test_work_within_the_patience_keeps_the_gangs():
    state = State()
    quiet = signal(4, busy=0)
    for tick in range(40):
        busy = replace(signal(4, held_gpu_s=1600), now_s=10.0 * tick)
        seen = busy if tick % 5 == 0 else replace(quiet, now_s=10.0 * tick)
        decision = decide(seen, state, SETTINGS)
        state = decision.state
        assert decision.gangs == 4


def test_a_backlog_at_the_threshold_makes_no_ripple():
    """Growing discounts what is done during a cold start; releasing does not."""
    low = signal(3, held_gpu_s=2400, queued=1)
    high = signal(3, held_gpu_s=2400, queued=3)
    state, wanted, target = State(), [], 3
    for tick in range(60):
        seen = replace(low if tick % 2 else high, now_s=10.0 * tick, target_gangs=target)
        decision = decide(seen, state, SETTINGS)
        state, target = decision.state, decision.gangs
        wanted.append(target)
    assert sum(a != b for a, b in pairwise(wanted)) <= 1


def test_the_last_gang_stays_longer():
    wanted = watched(signal(2, busy=0), 320)
    assert wanted[5:30] == [1] * 25
    assert wanted[30:] == [0, 0, 0]


def test_minimum_is_never_left():
    wanted = watched(replace(signal(4), busy_gangs=0, min_gangs=2), 400)
    assert min(wanted) == 2
    assert wanted[-1] == 2


def test_decision_is_a_function_of_its_arguments():
    seen = signal(3, held_gpu_s=2400, queued=7)
    assert decide(seen, State(), SETTINGS) == decide(seen, State(), SETTINGS)


@pytest.mark.parametrize(
    "wrong",
    [
        {"gpus_per_gang": 0},
        {"drain_target_s": 0},
        {"deadline_share": 0},
        {"max_step_up": 0},
        {"cold_start_s": -1},
        {"interval_s": -1},
    ],
)
def test_impossible_knobs_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(SETTINGS, **wrong)


@pytest.mark.parametrize(
    ("gangs", "replicas"),
    # A gang takes a clip in 100 s, the stage 6.9 s of it, busy for 70 %: a tenth of a replica.
    [(0, 0), (1, 1), (10, 1), (11, 2), (100, 10)],
)
def test_stages_follow_the_gangs(gangs, replicas):
    decision = follow(gangs, 100.0, 0.0, (), FollowerSettings(clip_s=6.9, utilisation=0.7))
    assert decision.replicas == replicas
    assert f"{gangs} gangs take" in decision.reason


def test_follower_keeps_replicas_for_its_patience():
    settings = FollowerSettings(clip_s=6.9, patience_s=60)
    first = follow(100, 100.0, 0.0, (), settings)
    later = follow(10, 100.0, 50.0, first.needs, settings)
    assert later.replicas == 10
    assert follow(10, 100.0, 70.0, later.needs, settings).replicas == 1


@pytest.mark.parametrize("wrong", [{"clip_s": 0}, {"utilisation": 0}, {"utilisation": 1.1}])
def test_impossible_followers_are_refused(wrong):
    with pytest.raises(ValueError, match="utilisation in"):
        FollowerSettings(**({"clip_s": 1.0} | wrong))
