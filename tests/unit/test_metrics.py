"""The registry as a whole, and its binding to Ray's metrics where no Ray runs."""

import re

import pytest

from autoscaling.order import PRIORITIES
from cluster import metrics
from cluster.health import Phase
from deployments.messages import Stage
from deployments.names import GATEWAY, PIPELINE
from monitoring import gangs, jobs, stages
from monitoring.labels import COMPONENTS, GANG, PRIORITY, STAGES, clip_size
from monitoring.metric import OTHER, Kind, Metric
from monitoring.registry import METRIC_OF_SERIES, METRICS

UNITS = {
    "seconds": ("_seconds", "_seconds_total"),
    "bytes": ("_bytes", "_bytes_total"),
    "info": ("_info",),
}
# Prometheus can hold this many series of one process without anybody looking.
MOST_SERIES = 20_000
each_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)


@each_metric
def test_names_follow_prometheus(metric: Metric) -> None:
    assert re.fullmatch(r"lingbot_[a-z][a-z_]*", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert metric.name.endswith(UNITS.get(metric.unit, ("",)))
    assert metric.meaning.endswith(".") and len(metric.meaning) > 20


@each_metric
def test_a_histogram_has_rising_buckets_and_nothing_else_has_any(metric: Metric) -> None:
    assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert all(bucket > 0 for bucket in metric.buckets)  # Ray takes no others


@each_metric
def test_labels_are_bounded_and_hold_no_ids(metric: Metric) -> None:
    assert len(set(metric.label_names)) == len(metric.label_names)
    assert not {"job_id", "id", "prompt", "seed", "width", "height"} & set(metric.label_names)
    assert all(label.values or (label.pattern and label.limit) for label in metric.labels)
    per_gang = (GANG.limit + 1) if GANG in metric.labels else 1
    assert metric.max_series / per_gang < MOST_SERIES


def test_names_are_unique() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    assert len(METRIC_OF_SERIES) == sum(len(metric.series_names) for metric in METRICS)


def test_stages_and_states_are_called_as_in_the_code() -> None:
    assert tuple(stage.value for stage in Stage) == STAGES
    assert (*STAGES, PIPELINE, GATEWAY) == COMPONENTS
    assert tuple(phase.value for phase in Phase) == gangs.GANG_STATES


def test_priorities_are_those_of_the_queue() -> None:
    assert PRIORITY.values == PRIORITIES


def test_ray_puts_its_prefix_before_a_name() -> None:
    assert jobs.JOBS.series_names == ("ray_lingbot_jobs_total",)
    assert jobs.READY.series_names == ("lingbot_ready",)
    histogram = "ray_lingbot_stage_seconds"
    parts = (f"{histogram}_bucket", f"{histogram}_count", f"{histogram}_sum")
    assert stages.STAGE_SECONDS.series_names == parts


@pytest.mark.parametrize(
    ("num_tokens", "size"),
    [(1, "1k"), (1024, "1k"), (1025, "2k"), (21 * 30 * 52, "32k"), (21 * 45 * 80, "128k")],
)
def test_clips_are_sized_by_powers_of_two(num_tokens: int, size: str) -> None:
    assert clip_size(num_tokens) == size


def test_a_value_that_no_label_admits_becomes_other() -> None:
    assert clip_size(10**9) == OTHER
    assert [GANG.clean(value) for value in ("0", "1249", "video_68c", "")] == [
        "0",
        "1249",
        OTHER,
        OTHER,
    ]
    assert jobs.JOBS.labels[0].clean("exploded") == OTHER


def test_without_ray_calls_go_nowhere() -> None:
    metrics.count(jobs.JOBS, outcome="completed", job_class="deadline", origin="client")
    metrics.count(jobs.FRAMES, 0, job_class="deadline")
    metrics.observe(gangs.CANCEL_SECONDS, -0.1)
    metrics.set_gauge(gangs.RANK_MEMORY, 2.0, gang="0", rank="1")
    metrics.clear_gauge(gangs.RANK_MEMORY)
    metrics.declare(jobs.SLO_JOBS, objective="wait")
    with metrics.timed(gangs.GANG_START_SECONDS, gang="0"):
        pass


def test_a_call_with_other_labels_than_the_metric_has_is_a_fault() -> None:
    with pytest.raises(AssertionError, match="lingbot_frames_total"):
        metrics.count(jobs.FRAMES, stage="denoiser")
    with pytest.raises(AssertionError, match="lingbot_frames_total"):
        metrics.observe(jobs.FRAMES, 1.0, job_class="deadline")
