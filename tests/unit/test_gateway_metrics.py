"""The gateway's `/metrics`, from rows in a real database to what Prometheus' own parser reads."""

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from autoscaling.order import PRIORITIES
from deployments.gateway_metrics import BEST_EFFORT, DEADLINE, Backlog, exposition
from deployments.jobs.database import open_database
from deployments.jobs.metrics import job_class
from deployments.jobs.store import JobStore
from deployments.jobs.tables import IN_PROGRESS, QUEUED, Job
from monitoring.metric import Exporter
from monitoring.registry import METRICS

Series = dict[tuple[str, ...], float]


def read(text: bytes) -> Series:
    """Values by name and labels' values."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def job(
    name: str, status: str, created_at: float, due_at_s: float | None, priority: str = "normal"
) -> Job:
    return Job(
        id=name,
        priority=priority,
        status=status,
        created_at=created_at,
        due_at_s=due_at_s,
        model="m",
        prompt="p",
        width=96,
        height=64,
        num_frames=17,
        seed="1",
        num_inference_steps=3,
    )


def test_backlogs_count_by_class_and_find_the_oldest(tmp_path: Path) -> None:
    store = JobStore(open_database(f"sqlite:///{tmp_path / 'jobs.sqlite'}"))
    empty = [Backlog(c, p) for c in (DEADLINE, BEST_EFFORT) for p in PRIORITIES]
    assert store.backlogs() == empty
    rows = [
        job("a", QUEUED, 900.0, None),
        job("b", QUEUED, 800.0, None),
        job("c", IN_PROGRESS, 700.0, None),
        job("d", IN_PROGRESS, 600.0, 1200.0),
        job("e", "completed", 500.0, 1200.0),
        job("f", QUEUED, 400.0, None, "low"),
    ]
    for row in rows:
        store.add(row)
    assert [found for found in store.backlogs() if found not in empty] == [
        Backlog(DEADLINE, num_running=1),
        Backlog(BEST_EFFORT, "low", num_queued=1, oldest_s=400.0),
        Backlog(BEST_EFFORT, num_queued=2, oldest_s=800.0, num_running=1),
    ]
    classes = [job_class(row) for row in rows]
    assert classes == [*[BEST_EFFORT] * 3, *[DEADLINE] * 2, BEST_EFFORT]
    store.close()


def test_the_exposition_has_every_metric_of_the_gateway() -> None:
    backlogs = [
        Backlog(DEADLINE),
        Backlog(BEST_EFFORT, "normal", 2, 800.0, 1),
        Backlog(BEST_EFFORT, "low", 1, 900.0, 2),
    ]
    series = read(exposition(backlogs, ready=True, now_s=1000.0))
    assert {name for name, *_ in series} == {
        metric.exported_name for metric in METRICS if metric.exporter is Exporter.GATEWAY
    }
    assert series["lingbot_ready",] == 1
    assert series["lingbot_store_up",] == 1
    assert series["lingbot_queue_jobs", BEST_EFFORT, "normal"] == 2
    assert series["lingbot_running_jobs", BEST_EFFORT] == 3
    assert series["lingbot_queue_oldest_age_seconds", BEST_EFFORT, "normal"] == 200
    assert series["lingbot_queue_oldest_age_seconds", BEST_EFFORT, "low"] == 100
    assert series["lingbot_queue_oldest_age_seconds", DEADLINE, "normal"] == 0


def test_a_database_that_is_away_leaves_no_queue_but_says_so() -> None:
    series = read(exposition(None, ready=False, now_s=1000.0))
    assert series == {("lingbot_ready",): 0, ("lingbot_store_up",): 0}


@pytest.mark.parametrize("now_s", [700.0, 800.0])
def test_a_clock_that_lags_makes_no_negative_age(now_s: float) -> None:
    series = read(exposition([Backlog(DEADLINE, "high", 1, 800.0)], ready=True, now_s=now_s))
    assert series["lingbot_queue_oldest_age_seconds", DEADLINE, "high"] == 0
