"""Who sets the number of gangs in a simulation, under the rules that Serve lays over any policy."""

import math
from dataclasses import dataclass
from typing import Protocol

from autoscaling.policy import GangSettings, Signal, State, decide


@dataclass(frozen=True, slots=True)
class Observation:
    """What a controller sees at a tick.

    Args:
        signal: What the denoisers and Serve's handles report.
        mean_requests: Clips that waited or ran, averaged over the look-back period.
    """

    signal: Signal
    mean_requests: float


class Controller(Protocol):
    """Sets the number of gangs."""

    def target(self, seen: Observation) -> int:
        """Gangs there should be from now on."""


@dataclass(frozen=True, slots=True)
class Delays:
    """Serve's `upscale_delay_s` and `downscale_delay_s`; the last gang takes the second too."""

    upscale_s: float = 30.0
    downscale_s: float = 600.0


@dataclass(frozen=True, slots=True)
class DelayState:
    """Since when, and in which direction (1 up, -1 down, 0 neither), another target is wanted."""

    direction: int = 0
    since_s: float = 0.0


def after_serve(
    desired: float, signal: Signal, delays: Delays, state: DelayState
) -> tuple[int, DelayState]:
    """What Serve makes of a policy's answer: delays, then bounds; scaling factors are 1.

    Written from the behaviour of Ray 2.60's `ray/serve/autoscaling_policy.py`
    (`_apply_default_params`, `_apply_delay_logic`) and `apply_bounds`; a test compares the two.
    """
    low, high = signal.min_gangs, signal.max_gangs
    wanted, target = max(0, math.ceil(desired)), signal.target_gangs
    if signal.running_gangs == 0 and wanted > 0:
        return max(low, min(high, wanted)), state
    direction = (wanted > target) - (wanted < target)
    if direction == 0:
        return max(low, min(high, target)), DelayState()
    if direction != state.direction:
        state = DelayState(direction, signal.now_s)
    if direction < 0 and target != 1:
        wanted = max(1, wanted)  # to zero leads only from one
    wait_s = delays.upscale_s if direction > 0 else delays.downscale_s
    if signal.now_s - state.since_s + 1e-6 >= wait_s:
        return max(low, min(high, wanted)), DelayState()
    return max(low, min(high, target)), state


def wakes_up(seen: Observation) -> bool:
    """Whether Serve asks no policy: nothing runs and somebody waits."""
    return seen.signal.running_gangs == 0 and seen.mean_requests > 0


def woken(signal: Signal) -> int:
    """The target that Serve then takes."""
    return min(signal.max_gangs, max(1, signal.min_gangs, signal.target_gangs))


class WorkController:
    """The project's policy, with Serve's delays at 0.

    No clip is handed over while no gang runs, so that Serve does not wake one by itself.
    """

    def __init__(self, settings: GangSettings) -> None:
        self._settings = settings
        self._state = State()
        self._delay = DelayState()

    def target(self, seen: Observation) -> int:
        """Gangs there should be from now on."""
        decision = decide(seen.signal, self._state, self._settings)
        self._state = decision.state
        none = Delays(0.0, 0.0)
        gangs, self._delay = after_serve(decision.gangs, seen.signal, none, self._delay)
        return gangs


class RequestsController:
    """Serve's default policy: replicas in proportion to requests that wait or run.

    Written from the behaviour of `replica_queue_length_autoscaling_policy` in Ray 2.60's
    `ray/serve/autoscaling_policy.py`; a test compares the two.

    Args:
        target_ongoing_requests: Requests that one replica should hold.
        delays: Serve's delays.
    """

    def __init__(self, target_ongoing_requests: float = 2.0, delays: Delays | None = None) -> None:
        self._target_ongoing_requests = target_ongoing_requests
        self._delays = delays or Delays()
        self._delay = DelayState()

    def target(self, seen: Observation) -> int:
        """Gangs there should be from now on."""
        signal = seen.signal
        if wakes_up(seen):
            return woken(signal)
        desired = float(signal.target_gangs)
        if signal.running_gangs:
            share = seen.mean_requests / (self._target_ongoing_requests * signal.running_gangs)
            desired = signal.running_gangs * share
        gangs, self._delay = after_serve(desired, signal, self._delays, self._delay)
        return gangs


class FixedController:
    """A fleet that does not scale."""

    def __init__(self, gangs: int) -> None:
        self._gangs = gangs

    def target(self, seen: Observation) -> int:
        """Gangs there should be from now on."""
        return self._gangs
