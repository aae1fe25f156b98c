"""Dashboards, rules and the metrics' reference are what the generator makes of the registry."""

import json
import re
from pathlib import Path

import pytest

from benchmarks.monitoring_proof import expressions
from monitoring import promql
from monitoring.dashboards.all import DASHBOARDS
from monitoring.dashboards.panel import WIDTH, Dashboard
from monitoring.gangs import GANG_STATE
from monitoring.generate import GROUPS, files
from monitoring.jobs import JOB_WAIT_SECONDS, JOBS, QUEUE_JOBS
from monitoring.registry import METRIC_OF_SERIES, METRICS
from monitoring.rules.rule import Record

ROOT = Path(__file__).resolve().parents[2]
SERIES = re.compile(r"\b(?:ray_)?lingbot_\w+")
RECORDED = re.compile(r"\blingbot:[\w:]+")
EXPRESSIONS = [
    *(
        query.expression
        for board in DASHBOARDS
        for panel in board.panels
        for query in panel.queries
    ),
    *(rule.expression for group in GROUPS for rule in group.rules),
]


def test_the_proof_is_of_these_very_expressions() -> None:
    proof = (ROOT / "docs/monitoring/proof.md").read_text()
    rows = [row.split(" | ", 4) for row in proof.splitlines() if row.endswith("` |")]
    proved = [
        (place[2:], title, text[1:-3].replace("\\|", "|")) for place, title, _, _, text in rows
    ]
    assert proved == list(expressions()), "run: make monitoring-proof"


@pytest.mark.parametrize("path", files(), ids=str)
def test_committed_files_are_the_generated_ones(path: Path) -> None:
    assert (ROOT / path).read_text() == files()[path], "run: python -m monitoring.generate"


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expressions_name_only_what_there_is(expression: str) -> None:
    records = {r.name for group in GROUPS for r in group.rules if isinstance(r, Record)}
    assert set(SERIES.findall(expression)) <= METRIC_OF_SERIES.keys()
    assert set(RECORDED.findall(expression)) <= records
    # Ray's agent records the middle of a bucket, not the value.
    assert not re.search(r"ray_lingbot_\w+_sum\b", expression)


def test_every_metric_is_shown_somewhere() -> None:
    used = {METRIC_OF_SERIES[name] for text in EXPRESSIONS for name in SERIES.findall(text)}
    assert {metric.name for metric in METRICS} - {metric.name for metric in used} == set()


@pytest.mark.parametrize("board", DASHBOARDS, ids=lambda board: board.uid)
def test_panels_lie_side_by_side(board: Dashboard) -> None:
    rendered = json.loads(json.dumps(board.render()))
    cells: set[tuple[int, int]] = set()
    for panel in rendered["panels"]:
        place = panel["gridPos"]
        area = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not area & cells, panel["title"]
        assert place["x"] + place["w"] <= WIDTH
        cells |= area
    numbers = [panel["id"] for panel in rendered["panels"]]
    assert numbers == sorted(set(numbers))


def test_queries_are_built_from_metrics() -> None:
    assert promql.latest(GANG_STATE, "gang", how="max", state="idle") == (
        'max by (gang) (ray_lingbot_gang_state{state=~"idle"})'
    )
    assert promql.latest(QUEUE_JOBS) == "sum (max by (job_class, priority) (lingbot_queue_jobs))"
    assert promql.rate(JOBS, "outcome", window="5m") == (
        "sum by (outcome) (rate(ray_lingbot_jobs_total[5m]))"
    )
    assert promql.rate(JOB_WAIT_SECONDS, window="5m") == (
        "sum (rate(ray_lingbot_job_wait_seconds_count[5m]))"
    )
    assert promql.quantile(0.95, JOB_WAIT_SECONDS, window="5m") == (
        "histogram_quantile(0.95, sum by (le) (rate(ray_lingbot_job_wait_seconds_bucket[5m])))"
    )


def test_a_query_with_a_label_that_the_metric_lacks_is_refused() -> None:
    with pytest.raises(AssertionError, match="lingbot_jobs_total"):
        promql.rate(JOBS, "stage")
    with pytest.raises(AssertionError, match="lingbot_jobs_total"):
        promql.increase(JOBS, stage="denoiser")
