"""How many gangs, and how many replicas of the stages around them.

Serve pickles a policy together with this module, by value, and unpickles it in its controller.
What this module imported from the project would be pickled by reference and would have to be
installed there, so it imports the standard library alone.
"""

import logging
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

# Keys of the denoiser's `record_autoscaling_stats`.
REMAINING_GPU_S = "remaining_gpu_s"  # of the clips that the gang runs and holds
BUSY = "busy"  # 1 while a clip runs
CLIP_GPU_S = "clip_gpu_s"  # mean cost of the clips that the gang has seen, 0 before the first

_STATE = "scaling"
_REASON = "reason"
_SERVE_LOG = "ray.serve"  # what the controller writes into its own file

Needs = tuple[tuple[float, int], ...]


@dataclass(frozen=True)
class GangSettings:
    """What decides about gangs; their bounds are Serve's min_replicas and max_replicas.

    Args:
        gpus_per_gang: GPUs that one replica's gang holds.
        drain_target_s: Within this time the gangs should finish all work that is known.
        cold_start_s: From the decision until a new gang takes its first clip.
        first_clip_gpu_s: Cost of a clip, GPU-seconds, until a gang has reported any.
        patience_s: How long a gang must have been surplus; None means `cold_start_s`, since an
            idle gang has cost by then what a new one would.
        idle_to_zero_s: How long no work at all must be known before the last gang goes.
        max_step_up: Most gangs added at once.
        max_step_down: Most gangs released at once.
        interval_s: Least time between two changes; metrics come every 10 s.
    """

    gpus_per_gang: int
    drain_target_s: float = 60.0
    cold_start_s: float = 120.0
    first_clip_gpu_s: float = 1000.0
    patience_s: float | None = None
    idle_to_zero_s: float = 900.0
    max_step_up: int = 4
    max_step_down: int = 4
    interval_s: float = 10.0

    def __post_init__(self) -> None:
        positive = ("gpus_per_gang", "drain_target_s", "first_clip_gpu_s")
        for name in (*positive, "max_step_up", "max_step_down"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
        for name in ("cold_start_s", "idle_to_zero_s", "interval_s"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative: {getattr(self, name)}")

    @property
    def surplus_s(self) -> float:
        """How long a gang must have been surplus before it is released."""
        return self.cold_start_s if self.patience_s is None else self.patience_s


@dataclass(frozen=True)
class Signal:
    """What is known at one moment.

    Args:
        now_s: Any clock that only moves forward.
        running_gangs: Gangs that can take clips.
        target_gangs: Gangs that were asked for, those that still load included.
        busy_gangs: Gangs with a clip.
        held_gpu_s: Remaining work of the clips inside gangs, GPU-seconds.
        queued_clips: Clips that wait outside of the gangs.
        clip_gpu_s: Mean cost of a clip, GPU-seconds; None where no gang has seen one.
        min_gangs: Lower bound.
        max_gangs: Upper bound.
    """

    now_s: float
    running_gangs: int
    target_gangs: int
    busy_gangs: int
    held_gpu_s: float
    queued_clips: float
    clip_gpu_s: float | None
    min_gangs: int
    max_gangs: int


@dataclass(frozen=True)
class State:
    """What a decision remembers for the next.

    Args:
        needs: (time, gangs needed) within the patience, the counts falling: the first is the most.
        since_s: When the watch began.
        worked_s: When work was last known.
        changed_s: When the target was last changed.
        clip_gpu_s: Mean cost of a clip when it was last known, GPU-seconds.
    """

    needs: Needs = ()
    since_s: float | None = None
    worked_s: float | None = None
    changed_s: float | None = None
    clip_gpu_s: float | None = None


@dataclass(frozen=True)
class Decision:
    """How many gangs there should be, why, and what to remember."""

    gangs: int
    reason: str
    state: State


def decide(signal: Signal, state: State, settings: GangSettings) -> Decision:
    """Chooses the number of gangs; a function of its arguments alone.

    Gangs are added when those asked for cannot finish the known work within the drain target,
    counted from when a new gang could help. They are released when they were surplus all through
    the patience.

    Args:
        signal: The present.
        state: What the previous decision returned.
        settings: The knobs.
    """
    clip_gpu_s = signal.clip_gpu_s or state.clip_gpu_s or settings.first_clip_gpu_s
    work_gpu_s = signal.held_gpu_s + signal.queued_clips * clip_gpu_s
    state = _observed(signal, state, settings, work_gpu_s)
    state = replace(state, clip_gpu_s=signal.clip_gpu_s or state.clip_gpu_s)
    need = _gangs_to_grow_to(signal, settings, work_gpu_s)
    keep = _gangs_to_keep(signal, state, settings)
    facts = f"{work_gpu_s:.0f} GPU-s of work on {signal.running_gangs} running gangs"
    gangs, reason = _bounded_step(signal, state, settings, need, keep)
    if gangs != signal.target_gangs:
        state = replace(state, changed_s=signal.now_s)
        reason = f"{signal.target_gangs} -> {gangs}: {reason}"
    return Decision(gangs, f"{reason}; {facts}", state)


def _bounded_step(
    signal: Signal, state: State, settings: GangSettings, need: int, keep: int
) -> tuple[int, str]:
    """The next target and its reason."""
    target = signal.target_gangs
    if target < signal.min_gangs:
        return signal.min_gangs, f"below min {signal.min_gangs}"
    if target > signal.max_gangs:
        return signal.max_gangs, f"above max {signal.max_gangs}"
    if need <= target <= keep:
        return target, "steady"
    if need > target == signal.max_gangs:
        return target, f"at max {signal.max_gangs}, {need} wanted"
    if state.changed_s is not None and signal.now_s - state.changed_s < settings.interval_s:
        return target, f"changed less than {settings.interval_s:.0f} s ago"
    if need > target:
        step = min(need, signal.max_gangs, target + settings.max_step_up)
        return step, f"{need} drain it in {settings.drain_target_s:.0f} s"
    floor = max(keep, signal.min_gangs)
    if floor == target:
        return target, f"at min {signal.min_gangs}"
    step = max(floor, target - settings.max_step_down)
    return step, f"{keep} were enough for {settings.surplus_s:.0f} s"


def _gangs_to_grow_to(signal: Signal, settings: GangSettings, work_gpu_s: float) -> int:
    """Gangs that drain what is left when a new one could start, within the drain target."""
    gang_s = work_gpu_s / settings.gpus_per_gang
    left_s = max(0.0, gang_s - signal.running_gangs * settings.cold_start_s)
    least = 1 if signal.running_gangs == 0 and work_gpu_s > 0 else 0
    return max(least, min(_num_clips(signal), math.ceil(left_s / settings.drain_target_s)))


def _num_clips(signal: Signal) -> int:
    """Clips that gangs could work on; more gangs than these would idle."""
    return signal.busy_gangs + math.ceil(signal.queued_clips)


def _observed(signal: Signal, state: State, settings: GangSettings, work_gpu_s: float) -> State:
    """The state with what the present needs added, and what is too old forgotten."""
    drained_gpu_s = settings.gpus_per_gang * settings.drain_target_s
    need = max(signal.busy_gangs, min(_num_clips(signal), math.ceil(work_gpu_s / drained_gpu_s)))
    return replace(
        state,
        needs=_remember(state.needs, signal.now_s, need, settings.surplus_s),
        since_s=signal.now_s if state.since_s is None else state.since_s,
        worked_s=signal.now_s if need or state.worked_s is None else state.worked_s,
    )


def _remember(needs: Needs, now_s: float, need: int, patience_s: float) -> Needs:
    """A sliding maximum: what a later, larger need hides can be forgotten."""
    kept = [entry for entry in needs if now_s - entry[0] <= patience_s and entry[1] > need]
    return (*kept, (now_s, need))


def _gangs_to_keep(signal: Signal, state: State, settings: GangSettings) -> int:
    """The most gangs that were needed within the patience; the last one stays longer."""
    assert state.since_s is not None and state.worked_s is not None
    if signal.now_s - state.since_s < settings.surplus_s:
        return max(signal.target_gangs, state.needs[0][1])
    idle_s = signal.now_s - state.worked_s
    return max(state.needs[0][1], 0 if idle_s >= settings.idle_to_zero_s else 1)


@dataclass(frozen=True)
class FollowerSettings:
    """What one stage around the gangs takes per clip.

    Args:
        clip_s: Seconds that one replica works for one clip.
        utilisation: Share of its time that a replica should be busy, in (0, 1].
        patience_s: How long replicas must have been surplus before they are released.
    """

    clip_s: float
    utilisation: float = 0.7
    patience_s: float = 120.0

    def __post_init__(self) -> None:
        if self.clip_s <= 0 or self.patience_s < 0 or not 0 < self.utilisation <= 1:
            raise ValueError(f"{self}: clip_s > 0, utilisation in (0, 1] and patience_s >= 0")


@dataclass(frozen=True)
class FollowerDecision:
    """How many replicas a stage should have, why, and what it needed lately."""

    replicas: int
    reason: str
    needs: Needs


def follow(
    gangs: int, gang_clip_s: float, now_s: float, needs: Needs, settings: FollowerSettings
) -> FollowerDecision:
    """Replicas for the rate at which so many gangs take clips.

    Args:
        gangs: Gangs that were asked for, so that the stage is there when they are.
        gang_clip_s: Mean time that a gang takes for one clip.
        now_s: Any clock that only moves forward.
        needs: What the previous decision returned.
        settings: What the stage takes per clip.
    """
    clips_per_s = gangs / gang_clip_s
    need = math.ceil(clips_per_s * settings.clip_s / settings.utilisation)
    needs = _remember(needs, now_s, need, settings.patience_s)
    reason = f"{gangs} gangs take {clips_per_s * 3600:.1f} clips an hour, {need} replicas keep up"
    return FollowerDecision(needs[0][1], reason, needs)


class Sample(Protocol):
    """One reported value of a replica's metric."""

    value: float


class ScalingContext(Protocol):
    """What the policies read of Serve's `AutoscalingContext`."""

    deployment_name: str
    current_num_replicas: int
    target_num_replicas: int
    capacity_adjusted_min_replicas: int
    capacity_adjusted_max_replicas: int
    policy_state: dict[str, Any]
    current_time: float

    @property
    def total_queued_requests(self) -> float: ...
    @property
    def raw_metrics(self) -> Mapping[str, Mapping[Any, Sequence[Sample]]]: ...


class GangPolicy:
    """Serve's policy of the denoiser's deployment.

    Set `upscale_delay_s` and `downscale_delay_s` to 0: Serve would apply them after this.

    Args:
        settings: Fields of `GangSettings`.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = GangSettings(**settings)
        self._logged: str | None = None

    def __call__(self, context: ScalingContext) -> tuple[int, dict[str, Any]]:
        """The number of gangs, and the state with its reason."""
        state = context.policy_state.get(_STATE, State())
        decision = decide(read_signal(context), state, self.settings)
        self._log(context, decision)
        return decision.gangs, {_STATE: decision.state, _REASON: decision.reason}

    def _log(self, context: ScalingContext, decision: Decision) -> None:
        # The controller asks ten times a second: a change is worth a line, once.
        change = decision.reason.partition(";")[0]
        new = decision.gangs != context.target_num_replicas and change != self._logged
        self._logged = change
        level = logging.INFO if new else logging.DEBUG
        logging.getLogger(_SERVE_LOG).log(level, "%s: %s", context.deployment_name, decision.reason)


class FollowPolicy:
    """Serve's policy of the whole application: the gangs lead, the other stages follow.

    It is the application's because a deployment's own policy sees no other deployment.

    Args:
        gangs: Fields of `GangSettings`.
        followers: Fields of `FollowerSettings` by deployment name.
        leader: Name of the deployment whose replicas are gangs.
    """

    def __init__(
        self,
        gangs: Mapping[str, Any],
        followers: Mapping[str, Mapping[str, Any]],
        leader: str = "denoiser",
    ) -> None:
        self._leader = leader
        self._gangs = GangPolicy(**gangs)
        self._followers = {name: FollowerSettings(**each) for name, each in followers.items()}

    def __call__(
        self, contexts: Mapping[Hashable, ScalingContext]
    ) -> tuple[dict[Hashable, int], dict[Hashable, dict[str, Any]]]:
        """Replicas and states by deployment; one that is not named keeps its replicas.

        Raises:
            ValueError: The leader does not scale.
        """
        leaders = [key for key, each in contexts.items() if each.deployment_name == self._leader]
        if not leaders:
            raise ValueError(f"{self._leader} leads, but has no autoscaling_config")
        leader = leaders[0]
        gangs, state = self._gangs(contexts[leader])
        replicas: dict[Hashable, int] = {leader: gangs}
        states: dict[Hashable, dict[str, Any]] = {leader: state}
        clip_gpu_s = state[_STATE].clip_gpu_s or self._gangs.settings.first_clip_gpu_s
        gang_clip_s = clip_gpu_s / self._gangs.settings.gpus_per_gang
        for key, context in contexts.items():
            if context.deployment_name in self._followers:
                replicas[key], states[key] = self._follow(context, gangs, gang_clip_s)
        return replicas, states

    def _follow(
        self, context: ScalingContext, gangs: int, gang_clip_s: float
    ) -> tuple[int, dict[str, Any]]:
        settings = self._followers[context.deployment_name]
        needs = context.policy_state.get(_STATE, ())
        decision = follow(gangs, gang_clip_s, context.current_time, needs, settings)
        low = context.capacity_adjusted_min_replicas
        high = context.capacity_adjusted_max_replicas
        bounded = max(low, min(high, decision.replicas))
        return bounded, {_STATE: decision.needs, _REASON: decision.reason}


def read_signal(context: ScalingContext) -> Signal:
    """What Serve knows, as the decision takes it; of each metric the newest report counts."""
    costs = [cost for cost in _newest(context, CLIP_GPU_S) if cost > 0]
    return Signal(
        now_s=context.current_time,
        running_gangs=context.current_num_replicas,
        target_gangs=context.target_num_replicas,
        busy_gangs=round(sum(_newest(context, BUSY))),
        held_gpu_s=sum(_newest(context, REMAINING_GPU_S)),
        queued_clips=context.total_queued_requests,
        clip_gpu_s=sum(costs) / len(costs) if costs else None,
        min_gangs=context.capacity_adjusted_min_replicas,
        max_gangs=context.capacity_adjusted_max_replicas,
    )


def _newest(context: ScalingContext, metric: str) -> list[float]:
    return [series[-1].value for series in context.raw_metrics.get(metric, {}).values() if series]
