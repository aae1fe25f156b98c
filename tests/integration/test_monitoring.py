"""The metrics of a living service: counted right, bounded, and enough for every panel and rule."""

import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.monitoring_proof import ask_all, unbounded
from monitoring.registry import METRIC_OF_SERIES
from tests.support import incidents
from tests.support.prometheus import INSTALLED, REPORTED_S, prometheus
from tests.support.server import Server, body, wait_for

# The service of these tests does not scale.
NEEDS_SCALING = "lingbot_autoscaling_"


def scrape(server: Server) -> Counter[tuple[str, tuple[str, ...]]]:
    """Every value of ours, by series and the registered labels; processes added up."""
    time.sleep(REPORTED_S)
    node = ray.nodes()[0]
    agent = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    values: Counter[tuple[str, tuple[str, ...]]] = Counter()
    for url in (agent, f"{server.url}/metrics"):
        for family in text_string_to_metric_families(httpx.get(url).text):
            for sample in family.samples:
                if metric := METRIC_OF_SERIES.get(sample.name):
                    labels = tuple(sample.labels[name] for name in metric.label_names)
                    values[sample.name, labels] += sample.value
    return values


def test_jobs_are_counted_once_by_how_they_end(server: Server) -> None:
    before = scrape(server)
    with server.client() as client:
        incidents.canary(server)
        late = client.post("/v1/videos", json=body(deadline_s=0.1)).json()["id"]
        assert wait_for(client, late)["status"] == "completed"
        incidents.refused_job(client)
        incidents.cancelled_job(client)
    grown = scrape(server)
    grown.subtract(before)

    def growth(name: str, *labels: str) -> float:
        return grown[f"ray_lingbot_{name}", labels]

    assert growth("jobs_total", "completed", "best_effort", "canary") == 1
    assert growth("jobs_total", "completed", "deadline", "client") == 1
    assert growth("jobs_total", "cancelled", "best_effort", "client") == 1
    assert growth("jobs_refused_total", "invalid_value") == 1
    assert growth("job_failures_total", "cancelled") == 1
    assert growth("slo_jobs_total", "deadline", "false") == 1
    assert growth("slo_jobs_total", "completed", "true") == 2
    assert growth("slo_jobs_total", "completed", "false") == 0
    assert growth("frames_total", "best_effort") == 5
    assert growth("video_seconds_total", "best_effort") == pytest.approx(5 / 16)
    assert growth("cancel_seconds_count") == 1
    assert growth("gpu_seconds_total", "cancelled") > 0
    # Both jobs have 2 or 3 steps and the latents; the cancelled one has more.
    assert growth("rank_steps_total", "0", "0") >= 7
    assert growth("rank_steps_total", "0", "0") == growth("rank_steps_total", "0", "1")


def test_more_jobs_make_no_more_series(server: Server) -> None:
    sizes = ("96x64", "64x96", "112x64", "80x80")
    with server.client() as client:

        def make(number: int) -> None:
            """Pairs of jobs beside one that is cancelled and one that is refused."""
            for n in range(number):
                size = sizes[n % len(sizes)]
                wanted = [body(prompt=f"prompt {n} {m}", seed=n, size=size) for m in range(3)]
                refused = client.post("/v1/videos", json=body(size=f"{n}x{n}"))
                assert refused.status_code == 400
                ids = [client.post("/v1/videos", json=each).json()["id"] for each in wanted]
                client.delete(f"/v1/videos/{ids.pop()}").raise_for_status()
                for video_id in ids:
                    assert wait_for(client, video_id)["status"] == "completed"

        make(len(sizes))
        few = {name for name, _ in scrape(server)}, len(scrape(server))
        make(10)
        many = scrape(server)
    assert ({name for name, _ in many}, len(many)) == few
    text = " ".join(value for _, labels in many for value in labels)
    assert "prompt" not in text and "video_" not in text


@pytest.mark.timeout(1200)  # four ranks are killed and come back
@pytest.mark.skipif(not INSTALLED, reason="needs Debian's package prometheus")
def test_a_real_prometheus_finds_data_for_every_panel_and_rule(
    server: Server, tmp_path: Path
) -> None:
    with prometheus(tmp_path / "prometheus", server.url) as watcher, server.client() as client:
        # A rate needs a value before the event and one after it.
        for _ in range(2):
            incidents.canary(server)
            incidents.good_jobs(client, 2)
            incidents.cancelled_job(client)
            incidents.killed_ranks(client)
        watcher.wait_healthy(2)
        empty = [f for f in ask_all(watcher) if not f.answer.num_series]
        assert [f.expression for f in empty if NEEDS_SCALING not in f.expression] == []
        assert unbounded(watcher) == []
        assert watcher.rule_problems() == []
