"""How many replicas of the stages around the gangs; as self-contained as `autoscaling.policy`."""

import math
from dataclasses import dataclass

from autoscaling.policy import Needs, remember


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
    needs = remember(needs, now_s, need, settings.patience_s)
    reason = f"{gangs} gangs take {clips_per_s * 3600:.1f} clips an hour, {need} replicas keep up"
    return FollowerDecision(needs[0][1], reason, needs)
