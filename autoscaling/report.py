"""What a replica that always runs tells the policy: the only numbers that Serve carries there.

Serve takes a flat dictionary of floats from a replica's `record_autoscaling_stats`. Knobs travel
with the work: as arguments of the policy they would be part of the application's version, and a
change of one would restart every gang.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from autoscaling.followers import FollowerSettings
from autoscaling.policy import Due, GangSettings

# Upper edges of the times to start within which the most pressing clip of each is reported.
DUE_EDGES_S = (15.0, 30.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 3840.0, float("inf"))
_GANGS, _FOLLOWER, _DUE = "gangs", "follower", "due"
_WHOLE = frozenset({"gpus_per_gang", "max_step_up", "max_step_down"})


@dataclass(frozen=True)
class WorkReport:
    """The work that is known, and how it is to be dealt with.

    Args:
        held_clips: Clips with the stages, up to their gang's last step.
        queued_clips: Clips that wait before the stages.
        work_gpu_s: Predicted work that is left of both, GPU-seconds.
        clip_gpu_s: Mean cost of the clips that were seen, GPU-seconds; 0 before the first.
        due: The most pressing clips with a deadline.
        gangs: Knobs of the gangs.
        followers: Knobs of the other stages that scale, by name.
    """

    held_clips: int
    queued_clips: int
    work_gpu_s: float
    clip_gpu_s: float
    due: tuple[Due, ...]
    gangs: GangSettings
    followers: Mapping[str, FollowerSettings]

    def as_stats(self) -> dict[str, float]:
        """The report as Serve carries it."""
        stats = {
            "held_clips": float(self.held_clips),
            "queued_clips": float(self.queued_clips),
            "work_gpu_s": self.work_gpu_s,
            "clip_gpu_s": self.clip_gpu_s,
        }
        for index, due in enumerate(self.due):
            stats |= _flat(f"{_DUE}/{index}", asdict(due))
        stats |= _flat(_GANGS, {**asdict(self.gangs), "patience_s": self.gangs.surplus_s})
        for stage, settings in self.followers.items():
            stats |= _flat(f"{_FOLLOWER}/{stage}", asdict(settings))
        return stats

    @classmethod
    def of(cls, stats: Mapping[str, float]) -> "WorkReport":
        """The report that `as_stats` made such numbers of."""
        gangs: dict[str, float] = {}
        followers: dict[str, dict[str, float]] = {}
        due: dict[str, dict[str, float]] = {}
        for key, value in stats.items():
            match key.split("/"):
                case [kind, field] if kind == _GANGS:
                    gangs[field] = value
                case [kind, stage, field] if kind == _FOLLOWER:
                    followers.setdefault(stage, {})[field] = value
                case [kind, index, field] if kind == _DUE:
                    due.setdefault(index, {})[field] = value
        whole = {name: int(value) for name, value in gangs.items() if name in _WHOLE}
        return cls(
            held_clips=int(stats["held_clips"]),
            queued_clips=int(stats["queued_clips"]),
            work_gpu_s=stats["work_gpu_s"],
            clip_gpu_s=stats["clip_gpu_s"],
            due=tuple(Due(**each) for each in due.values()),
            gangs=GangSettings(**{**gangs, **whole}),  # type: ignore[arg-type]
            followers={stage: FollowerSettings(**each) for stage, each in followers.items()},
        )


def most_pressing(due: Sequence[Due]) -> tuple[Due, ...]:
    """Of clips with similar times to start, the one with the most work before it.

    Clips whose time is up are left out: no gang makes them punctual.
    """
    chosen: list[Due] = []
    left = sorted((each for each in due if each.start_in_s > 0), key=lambda each: each.start_in_s)
    for edge_s in DUE_EDGES_S:
        within = [each for each in left if each.start_in_s <= edge_s]
        left = left[len(within) :]
        if within:
            chosen.append(max(within, key=lambda each: each.ahead_gpu_s / each.start_in_s))
    return tuple(chosen)


def _flat(prefix: str, values: Mapping[str, float | None]) -> dict[str, float]:
    return {f"{prefix}/{name}": float(v) for name, v in values.items() if v is not None}
