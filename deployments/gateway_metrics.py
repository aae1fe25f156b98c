"""The gateway's own `/metrics`: what every gateway reads alike from the table of jobs.

It is made anew for each scrape, so that there is nothing to keep up to date.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from autoscaling.order import NORMAL
from monitoring import jobs
from monitoring.metric import Metric

DEADLINE, BEST_EFFORT = "deadline", "best_effort"


@dataclass(frozen=True, slots=True)
class Backlog:
    """The unfinished jobs of one class and priority.

    Args:
        job_class: `deadline` or `best_effort`.
        priority: One of `autoscaling.order.PRIORITIES`.
        num_queued: Those that wait.
        oldest_s: Unix time at which the oldest of these was accepted.
        num_running: Those in the pipeline.
    """

    job_class: str
    priority: str = NORMAL
    num_queued: int = 0
    oldest_s: float | None = None
    num_running: int = 0


def exposition(backlogs: Iterable[Backlog] | None, *, ready: bool, now_s: float) -> bytes:
    """The text that Prometheus reads.

    Args:
        backlogs: One per class and priority; None where the database does not answer.
        ready: Whether a video can be made now.
        now_s: Unix time.
    """
    registry = CollectorRegistry()
    _gauge(jobs.READY, registry).set(ready)
    _gauge(jobs.STORE_UP, registry).set(backlogs is not None)
    queued = _gauge(jobs.QUEUE_JOBS, registry)
    oldest = _gauge(jobs.QUEUE_OLDEST_SECONDS, registry)
    running = _gauge(jobs.RUNNING_JOBS, registry)
    for backlog in backlogs or ():
        queued.labels(backlog.job_class, backlog.priority).set(backlog.num_queued)
        running.labels(backlog.job_class).inc(backlog.num_running)
        age_s = 0.0 if backlog.oldest_s is None else now_s - backlog.oldest_s
        oldest.labels(backlog.job_class, backlog.priority).set(max(0.0, age_s))
    return generate_latest(registry)


def _gauge(metric: Metric, registry: CollectorRegistry) -> Gauge:
    return Gauge(metric.name, metric.meaning, metric.label_names, registry=registry)
