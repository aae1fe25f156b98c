"""How many gangs: a function of the work that is known, its deadlines and what was decided before.

Serve pickles the policy that calls this by value and unpickles it in its controller, so nothing
here imports more than the standard library and this package (`deployments.stage_policy`).
"""

import math
from dataclasses import dataclass, replace
from enum import Enum

Needs = tuple[tuple[float, int], ...]


@dataclass(frozen=True)
class GangSettings:
    """What decides about gangs; their bounds are Serve's min_replicas and max_replicas.

    Args:
        gpus_per_gang: GPUs that one replica's gang holds.
        drain_target_s: Within this time the gangs should finish all work that is known.
        cold_start_s: From the decision until a new gang takes its first clip.
        deadline_share: Share of the time until a clip must start that its gangs are planned with.
        patience_s: How long a gang must have been surplus; None means `cold_start_s`, since an
            idle gang has cost by then what a new one would.
        idle_to_zero_s: How long no work at all must be known before the last gang goes.
        max_step_up: Most gangs added at once.
        max_step_down: Most gangs released at once.
        interval_s: Least time between two changes.
    """

    gpus_per_gang: int
    drain_target_s: float = 60.0
    cold_start_s: float = 120.0
    deadline_share: float = 0.8
    patience_s: float | None = None
    idle_to_zero_s: float = 900.0
    max_step_up: int = 4
    max_step_down: int = 4
    interval_s: float = 10.0

    def __post_init__(self) -> None:
        for name in ("gpus_per_gang", "drain_target_s", "max_step_up", "max_step_down"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        for name in ("cold_start_s", "idle_to_zero_s", "interval_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative: {getattr(self, name)}")
        if not 0 < self.deadline_share <= 1:
            raise ValueError(f"deadline_share must lie in (0, 1], not {self.deadline_share}")

    @property
    def surplus_s(self) -> float:
        """How long a gang must have been surplus before it is released."""
        return self.cold_start_s if self.patience_s is None else self.patience_s


@dataclass(frozen=True)
class Due:
    """A waiting clip with a deadline.

    Args:
        start_in_s: The latest moment at which it must start to be done in time, from now.
        ahead_gpu_s: Work that is taken before it as things stand, GPU-seconds.
    """

    start_in_s: float
    ahead_gpu_s: float


@dataclass(frozen=True)
class Signal:
    """What is known at one moment.

    Args:
        now_s: Any clock that only moves forward.
        running_gangs: Gangs that can take clips.
        target_gangs: Gangs that were asked for, those that still load included.
        busy_gangs: Gangs with a clip.
        work_gpu_s: Predicted work that is left of all known clips, GPU-seconds.
        num_clips: Those clips, running or waiting; more gangs than these would idle.
        min_gangs: Lower bound.
        max_gangs: Upper bound.
        due: Waiting clips with a deadline; the most pressing ones are enough.
    """

    now_s: float
    running_gangs: int
    target_gangs: int
    busy_gangs: int
    work_gpu_s: float
    num_clips: int
    min_gangs: int
    max_gangs: int
    due: tuple[Due, ...] = ()


class Cause(str, Enum):
    """Why a decision is what it is, in one word; the reason says it with numbers."""

    STEADY = "steady"
    DRAIN = "drain"
    DEADLINE = "deadline"
    SURPLUS = "surplus"
    PACE = "pace"
    AT_MIN = "at_min"
    AT_MAX = "at_max"


@dataclass(frozen=True)
class State:
    """What a decision remembers for the next.

    Args:
        needs: (time, gangs needed) within the patience, the counts falling: the first is the most.
        since_s: When the watch began.
        worked_s: When work was last known.
        changed_s: When the target was last changed.
    """

    needs: Needs = ()
    since_s: float | None = None
    worked_s: float | None = None
    changed_s: float | None = None


@dataclass(frozen=True)
class Decision:
    """How many gangs there should be, why, and what to remember."""

    gangs: int
    cause: Cause
    reason: str
    state: State


@dataclass(frozen=True)
class _Need:
    gangs: int
    cause: Cause
    why: str


def decide(signal: Signal, state: State, settings: GangSettings) -> Decision:
    """Chooses the number of gangs; a function of its arguments alone.

    Gangs are added when those asked for cannot finish the known work within the drain target, or
    start a clip in time for its deadline, counted from when a new gang could help. They are
    released when they were surplus all through the patience.

    Args:
        signal: The present.
        state: What the previous decision returned.
        settings: The knobs.
    """
    state = _observed(signal, state, settings)
    need = _to_grow_to(signal, settings)
    keep = _to_keep(signal, state, settings)
    gangs, cause, reason = _bounded_step(signal, state, settings, need, keep)
    if gangs != signal.target_gangs:
        state = replace(state, changed_s=signal.now_s)
        reason = f"{signal.target_gangs} -> {gangs}: {reason}"
    facts = (
        f"{signal.work_gpu_s:.0f} GPU-s of work in {signal.num_clips} clips "
        f"on {signal.running_gangs} running gangs"
    )
    return Decision(gangs, cause, f"{reason}; {facts}", state)


def _bounded_step(
    signal: Signal, state: State, settings: GangSettings, need: _Need, keep: int
) -> tuple[int, Cause, str]:
    """The next target, its cause and its reason."""
    target = signal.target_gangs
    if target < signal.min_gangs:
        return signal.min_gangs, Cause.AT_MIN, f"below min {signal.min_gangs}"
    if target > signal.max_gangs:
        return signal.max_gangs, Cause.AT_MAX, f"above max {signal.max_gangs}"
    if need.gangs <= target <= keep:
        return target, Cause.STEADY, "steady"
    if need.gangs > target == signal.max_gangs:
        return target, Cause.AT_MAX, f"at max {signal.max_gangs}, {need.gangs} wanted"
    if state.changed_s is not None and signal.now_s - state.changed_s < settings.interval_s:
        return target, Cause.PACE, f"changed less than {settings.interval_s:g} s ago"
    if need.gangs > target:
        step = min(need.gangs, signal.max_gangs, target + settings.max_step_up)
        return step, need.cause, need.why
    floor = max(keep, signal.min_gangs)
    if floor == target:
        return target, Cause.AT_MIN, f"at min {signal.min_gangs}"
    step = max(floor, target - settings.max_step_down)
    return step, Cause.SURPLUS, f"{keep} were enough for {settings.surplus_s:g} s"


def _to_grow_to(signal: Signal, settings: GangSettings) -> _Need:
    """Gangs that do in time what is left when a new one could start."""
    gang_s = signal.work_gpu_s / settings.gpus_per_gang
    left_s = max(0.0, gang_s - signal.running_gangs * settings.cold_start_s)
    drain = min(signal.num_clips, math.ceil(left_s / settings.drain_target_s))
    due, start_in_s = _for_deadlines(signal, settings, settings.cold_start_s)
    if due > drain:
        return _Need(due, Cause.DEADLINE, f"{due} start a clip that is due in {start_in_s:.0f} s")
    if drain == 0 and signal.running_gangs == 0 and signal.num_clips:
        return _Need(1, Cause.DRAIN, "a clip waits and no gang runs")
    return _Need(drain, Cause.DRAIN, f"{drain} drain it in {settings.drain_target_s:g} s")


def _for_deadlines(signal: Signal, settings: GangSettings, cold_s: float) -> tuple[int, float]:
    """Gangs that the most demanding deadline needs, and when its clip must start.

    A clip that has to start before a new gang could is not helped by one.

    Args:
        signal: The present.
        settings: The knobs.
        cold_s: Until the gangs in question work; those that run do so all the time.
    """
    most, start_in_s = 0, 0.0
    for due in signal.due:
        planned_s = due.start_in_s * settings.deadline_share
        if planned_s > cold_s:
            ahead_s = due.ahead_gpu_s / settings.gpus_per_gang
            left_s = ahead_s - signal.running_gangs * cold_s
            gangs = min(signal.num_clips, max(1, math.ceil(left_s / (planned_s - cold_s))))
            if gangs > most:
                most, start_in_s = gangs, due.start_in_s
    return most, start_in_s


def _observed(signal: Signal, state: State, settings: GangSettings) -> State:
    """The state with what the present needs added, and what is too old forgotten."""
    drained_gpu_s = settings.gpus_per_gang * settings.drain_target_s
    drain = min(signal.num_clips, math.ceil(signal.work_gpu_s / drained_gpu_s))
    due, _ = _for_deadlines(signal, settings, 0.0)
    need = max(signal.busy_gangs, drain, due)
    return replace(
        state,
        needs=remember(state.needs, signal.now_s, need, settings.surplus_s),
        since_s=signal.now_s if state.since_s is None else state.since_s,
        worked_s=signal.now_s if need or state.worked_s is None else state.worked_s,
    )


def remember(needs: Needs, now_s: float, need: int, patience_s: float) -> Needs:
    """A sliding maximum: what a later, larger need hides can be forgotten.

    Args:
        needs: (time, need) so far, the needs falling.
        now_s: The present.
        need: At the present.
        patience_s: How long a need is remembered.

    Returns:
        The pairs that still matter; the first holds the most that was needed.
    """
    kept = [entry for entry in needs if now_s - entry[0] <= patience_s and entry[1] > need]
    return (*kept, (now_s, need))


def _to_keep(signal: Signal, state: State, settings: GangSettings) -> int:
    """The most gangs that were needed within the patience; the last one stays longer."""
    assert state.since_s is not None and state.worked_s is not None
    if signal.now_s - state.since_s < settings.surplus_s:
        return max(signal.target_gangs, state.needs[0][1])
    idle_s = signal.now_s - state.worked_s
    return max(state.needs[0][1], 0 if idle_s >= settings.idle_to_zero_s else 1)
