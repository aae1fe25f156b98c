"""Metrics of autoscaling: what was decided and why."""

from monitoring.labels import STAGE
from monitoring.metric import Kind, Label, Metric

# `autoscaling.policy.Cause` for gangs, "follow" for the stages around them.
_REASONS = (
    "drain",
    "deadline",
    "surplus",
    "pace",
    "at_min",
    "at_max",
    "steady",
    "follow",
)

AUTOSCALING_DECISIONS = Metric(
    "lingbot_autoscaling_decisions_total",
    Kind.COUNTER,
    "decisions",
    "Decisions of the autoscaling policy that differ from the one before, by direction and reason.",
    (STAGE, Label("direction", ("up", "down", "hold")), Label("reason", _REASONS)),
)
AUTOSCALING_REPLICAS = Metric(
    "lingbot_autoscaling_replicas",
    Kind.GAUGE,
    "replicas",
    "Replicas of a stage: those that run, and those that the policy wants.",
    (STAGE, Label("kind", ("current", "target"))),
)
AUTOSCALING_WORK = Metric(
    "lingbot_autoscaling_work_seconds",
    Kind.GAUGE,
    "seconds",
    "Predicted seconds of work for one gang, queued and running, as the policy saw it last.",
    (STAGE,),
)
