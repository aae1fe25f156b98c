"""The policy that Serve's controller asks for every stage's replicas, ten times a second.

Serve pickles the class by value together with this module, and nothing else: what it uses of this
project is registered below, so that the controller needs none of our packages. That is also why it
binds its metrics itself: `cluster.metrics` holds a thread and a lock, which do not travel.
"""

import logging
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol

from ray import cloudpickle
from ray.util.metrics import Counter, Gauge

from autoscaling import followers, policy, report
from autoscaling.followers import follow
from autoscaling.policy import Decision, Signal, State, decide
from autoscaling.report import WorkReport
from monitoring import metric
from monitoring.metric import Metric
from monitoring.scaling import AUTOSCALING_DECISIONS, AUTOSCALING_REPLICAS, AUTOSCALING_WORK

for _module in (policy, followers, report, metric):
    cloudpickle.register_pickle_by_value(_module)  # type: ignore[no-untyped-call]

_LEADER = "denoiser"
_REPORTER = "pipeline"
_STATE = "scaling"
_REASON = "reason"
# A report this old comes from a replica that is gone; until there is a new one, nothing changes.
_REPORT_AGE_S = 60.0

Replicas = dict[Hashable, int]
States = dict[Hashable, dict[str, Any]]


class Sample(Protocol):
    """One reported value of a replica's metric."""

    timestamp: float
    value: float


class ScalingContext(Protocol):
    """What the policy reads of Serve's `AutoscalingContext`."""

    deployment_name: str
    current_num_replicas: int
    target_num_replicas: int
    capacity_adjusted_min_replicas: int
    capacity_adjusted_max_replicas: int
    policy_state: dict[str, Any]
    current_time: float

    @property
    def raw_metrics(self) -> Mapping[str, Mapping[Any, Sequence[Sample]]]: ...


class StagePolicy:
    """Serve's policy of the whole application: gangs by their work, other stages by the gangs.

    It is the application's because a deployment's own policy sees no other deployment, and because
    gangs of which none runs can report nothing. The pipeline, which always runs, reports for all.
    """

    def __init__(self) -> None:
        self._noted: dict[str, str] = {}
        self._decisions = Counter(**_described(AUTOSCALING_DECISIONS))
        # Ray forgets a gauge that is not set again, and this is asked ten times a second.
        self._replicas = Gauge(**_described(AUTOSCALING_REPLICAS))
        self._work = Gauge(**_described(AUTOSCALING_WORK))

    def __call__(self, contexts: Mapping[Hashable, ScalingContext]) -> tuple[Replicas, States]:
        """Replicas and states by deployment; one that is not named keeps its replicas."""
        by_name = {each.deployment_name: (key, each) for key, each in contexts.items()}
        told = _newest_report(by_name[_REPORTER][1])
        if told is None:
            return {}, {key: dict(each.policy_state) for key, each in contexts.items()}
        key, leader = by_name[_LEADER]
        state = leader.policy_state.get(_STATE, State())
        decision = decide(read_signal(leader, told), state, told.gangs)
        self._note(leader, decision.cause.value, decision.gangs, decision.reason)
        self._work.set(told.work_gpu_s / told.gangs.gpus_per_gang, {"stage": _LEADER})
        replicas: Replicas = {key: decision.gangs}
        states: States = {key: {_STATE: decision.state, _REASON: decision.reason}}
        for name in told.followers.keys() & by_name.keys():
            key, follower = by_name[name]
            replicas[key], states[key] = self._follow(follower, decision, told)
        return replicas, states

    def _follow(
        self, context: ScalingContext, leader: Decision, told: WorkReport
    ) -> tuple[int, dict[str, Any]]:
        if not told.clip_gpu_s:  # no clip was ever seen, so the gangs have no rate
            return context.target_num_replicas, dict(context.policy_state)
        decision = follow(
            leader.gangs,
            told.clip_gpu_s / told.gangs.gpus_per_gang,
            context.current_time,
            context.policy_state.get(_STATE, ()),
            told.followers[context.deployment_name],
        )
        low = context.capacity_adjusted_min_replicas
        high = context.capacity_adjusted_max_replicas
        bounded = max(low, min(high, decision.replicas))
        reason = decision.reason
        if bounded != context.target_num_replicas:
            reason = f"{context.target_num_replicas} -> {bounded}: {reason}"
        self._note(context, "follow", bounded, reason)
        return bounded, {_STATE: decision.needs, _REASON: decision.reason}

    def _note(self, context: ScalingContext, cause: str, replicas: int, reason: str) -> None:
        """Says what was decided, in the metrics and the log; the same again is no news."""
        stage, target = context.deployment_name, context.target_num_replicas
        current = {"stage": stage, "kind": "current"}
        self._replicas.set(context.current_num_replicas, current)
        self._replicas.set(replicas, {"stage": stage, "kind": "target"})
        news = f"{target} -> {replicas} ({cause})" if replicas != target else cause
        if self._noted.get(stage) == news:
            return
        self._noted[stage] = news
        direction = "up" if replicas > target else "down" if replicas < target else "hold"
        self._decisions.inc(1, {"stage": stage, "direction": direction, "reason": cause})
        if replicas != target:
            logging.getLogger("ray.serve").info("%s: %s", stage, reason)


def _described(each: Metric) -> dict[str, Any]:
    return {"name": each.name, "description": each.meaning, "tag_keys": each.label_names}


def read_signal(context: ScalingContext, told: WorkReport) -> Signal:
    """What Serve and the report know, as the decision takes it."""
    return Signal(
        now_s=context.current_time,
        running_gangs=context.current_num_replicas,
        target_gangs=context.target_num_replicas,
        busy_gangs=min(context.current_num_replicas, told.held_clips),
        work_gpu_s=told.work_gpu_s,
        num_clips=told.held_clips + told.queued_clips,
        min_gangs=context.capacity_adjusted_min_replicas,
        max_gangs=context.capacity_adjusted_max_replicas,
        due=told.due,
    )


def _newest_report(context: ScalingContext) -> WorkReport | None:
    """The last report; Serve keeps values of older ones beside it, which must not mix in."""
    newest = {
        name: series[-1]
        for name, by_replica in context.raw_metrics.items()
        for series in by_replica.values()
        if series
    }
    told_s = max((sample.timestamp for sample in newest.values()), default=0.0)
    if context.current_time - told_s > _REPORT_AGE_S:
        return None
    stats = {name: each.value for name, each in newest.items() if each.timestamp == told_s}
    return WorkReport.of(stats) if "work_gpu_s" in stats else None
