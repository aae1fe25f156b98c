"""Is a gang well? A verdict as a value, from a state as a value. Pure."""

from dataclasses import dataclass
from enum import Enum

from cluster.config import GangConfig

# The owner acts at a deadline itself; only an owner that does not is judged unhealthy.
GRACE_S = 5.0


class Phase(str, Enum):
    """What a gang is doing."""

    STARTING = "starting"
    IDLE = "idle"
    RUNNING = "running"
    HEALING = "healing"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class GangState:
    """A gang at one moment.

    Args:
        phase: What it is doing.
        since_s: Monotonic time of the last progress: phase entered or item received.
        job_id: The running job.
        num_items: Items received of that job.
        reason: Why it is healing or dead.
    """

    phase: Phase
    since_s: float
    job_id: str | None = None
    num_items: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a gang is healthy and, if not, why not."""

    healthy: bool
    reason: str = ""


def patience_s(state: GangState, config: GangConfig) -> float:
    """Seconds after `state.since_s` by which there must be progress; infinite when idle."""
    if state.phase is Phase.RUNNING:
        return config.step_timeout_s if state.num_items else config.first_step_timeout_s
    if state.phase is Phase.HEALING:
        return config.start_timeout_s * config.max_heal_attempts
    if state.phase is Phase.STARTING:
        return config.start_timeout_s
    return float("inf")


def judge(state: GangState, config: GangConfig, now_s: float) -> Verdict:
    """Looks at progress, not only at whether processes exist.

    Args:
        state: The gang.
        config: Its deadlines.
        now_s: Monotonic time.
    """
    if state.phase is Phase.DEAD:
        return Verdict(False, f"the gang is dead: {state.reason}")
    silent_s = now_s - state.since_s
    if silent_s > patience_s(state, config) + GRACE_S:
        job = f" (job {state.job_id}, item {state.num_items})" if state.job_id else ""
        return Verdict(False, f"{state.phase.value}{job} without progress for {silent_s:.1f} s")
    return Verdict(True)
