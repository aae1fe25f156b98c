"""Does every panel and every rule return data on the real thing?

    python -m benchmarks.monitoring_proof

Starts the examples' checkpoint on a local cluster, lets a real Prometheus scrape Ray's metrics
agent and the gateway every five seconds, lives through jobs that succeed, fail, are cancelled,
refused and late, a killed rank and a gang more, and then asks Prometheus every expression of every
dashboard and rule. Exit code 1 if one of them has no data, or a registered metric never appeared.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import httpx
from ray import serve

from deployments.config import ServeConfig
from deployments.launch import start_local
from deployments.listeners import free_port
from deployments.names import PIPELINE
from monitoring.dashboards.all import DASHBOARDS
from monitoring.generate import GROUPS
from monitoring.metric import OTHER
from monitoring.registry import METRIC_OF_SERIES, METRICS
from monitoring.rules.rule import Alert
from tests.support import incidents
from tests.support.prometheus import (
    PACE_S,
    SHORT_WINDOWS,
    Answer,
    Prometheus,
    prometheus,
    recorded_names,
)
from tests.support.server import Server, body, small_config, wait_for

REPORT = Path("docs/monitoring/proof.md")
CHECKPOINT = Path("examples/checkpoint")
# Ray's agents report every ten seconds unless told otherwise.
_PACE = {"RAY_metrics_report_interval_ms": "1000", "RAY_AUTH_MODE": "disabled"}
_BACKLOG, _CONCURRENT = 4, 4


@dataclass(frozen=True)
class Finding:
    """One expression and what Prometheus said to it."""

    place: str
    title: str
    expression: str
    answer: Answer


def settings(data_dir: Path) -> ServeConfig:
    """The small service with one gang of two that may become two gangs."""
    config = small_config(CHECKPOINT.absolute(), data_dir, port=free_port(), gang_size=2)
    raw = config.model_dump()
    raw["pipeline"]["denoiser"]["scaling"] = {
        "min_replicas": 1,
        "max_replicas": 2,
        "drain_target_s": 2.0,
        "cold_start_s": 1.0,
        "interval_s": 1.0,
        "report_interval_s": 1.0,
        "patience_s": 5.0,
    }
    raw["gateway"]["limits"]["max_queued_jobs"] = _BACKLOG
    raw["gateway"]["max_concurrent_jobs"] = _CONCURRENT
    raw["gateway"]["wait_objective_s"] = 5.0
    return ServeConfig.model_validate(raw)


def live(server: Server) -> None:
    """Everything that a panel or a rule tells of."""
    with server.client() as client:
        for number in range(2):
            print(f"round {number + 1} of 2", flush=True)
            incidents.canary(server)
            incidents.good_jobs(client, 4)
            incidents.missed_deadline(client)
            incidents.refused_job(client)
            incidents.cancelled_job(client)
            incidents.killed_ranks(client)
        incidents.full_queue(client, _BACKLOG + _CONCURRENT)
        grow(client)
        incidents.good_jobs(client, 4)


def grow(client: httpx.Client) -> None:
    """Enough work for a second gang, until it is there."""
    long = body(num_inference_steps=150)
    ids = [client.post("/v1/videos", json=long).json()["id"] for _ in range(_BACKLOG)]
    deadline_s = time.monotonic() + 90
    while _num_gangs() < 2:
        assert time.monotonic() < deadline_s, "no second gang came"
        time.sleep(0.5)
    for video_id in ids:
        assert wait_for(client, video_id)["status"] == "completed"


def _num_gangs() -> int:
    denoiser = serve.status().applications[PIPELINE].deployments["denoiser"]
    return denoiser.replica_states.get("RUNNING", 0)


def ask_all(server: Prometheus) -> list[Finding]:
    """Asks every expression; of an alert its signals, since its condition is false on purpose."""
    return [Finding(*asked, server.ask(asked[-1])) for asked in expressions()]


def expressions() -> Iterator[tuple[str, str, str]]:
    """Where each expression stands, what for, and the expression."""
    for board in DASHBOARDS:
        for panel in board.panels:
            for query in panel.queries:
                yield board.title, panel.title, query.expression
    for group in GROUPS:
        for rule in group.rules:
            signals = rule.signals if isinstance(rule, Alert) else {"": rule.expression}
            for name, expression in signals.items():
                yield group.name, f"{rule.name} {name}".strip(), expression


def problems(server: Prometheus, findings: list[Finding]) -> list[str]:
    """What is wrong, in words; empty if nothing is."""
    names = server.names()
    appeared = {METRIC_OF_SERIES[name].name for name in names if name in METRIC_OF_SERIES}
    ours = {name for name in names if "lingbot_" in name}
    return [
        *(
            f"no data: {f.place} / {f.title}: {f.expression}"
            for f in findings
            if not f.answer.num_series
        ),
        *(f"never appeared: {metric.name}" for metric in METRICS if metric.name not in appeared),
        *(f"not registered: {name}" for name in sorted(ours - METRIC_OF_SERIES.keys())),
        *(f"not recorded: {name}" for name in sorted(recorded_names() - names)),
        *server.rule_problems(),
        *unbounded(server),
    ]


def unbounded(server: Prometheus) -> list[str]:
    """Series with a label or a value that the registry does not have."""
    wrong = []
    for name, metric in METRIC_OF_SERIES.items():
        for series in server.series(name):
            for label in metric.labels:
                value = series.get(label.name, "")
                if value == OTHER or label.clean(value) != value:
                    wrong.append(f"{name} has {label.name}={value!r}")
    return wrong


def report(findings: list[Finding], num_series: int, seconds: float) -> str:
    """The findings as a page."""
    windows = ", ".join(f"{long} as {short}" for long, short in SHORT_WINDOWS.items())
    today = datetime.now(timezone.utc).date().isoformat()
    head = f"""# Proof: every panel and every rule returns data

Written by `make monitoring-proof` on {today}: Prometheus scraped a local cluster (Ray
{version("ray")}, {os.cpu_count()} cores) every {PACE_S} s for {seconds:.0f} s, through Ray's
metrics agent and the gateway's `/metrics`. The cluster made clips from the examples' checkpoint,
and met canaries, a refused request, a full queue, a missed deadline, cancelled clips, killed ranks
and a second gang.

Every expression below is the one in the dashboards and rules but for its windows, since the run
lasts minutes: {windows}. The table shows how many series had a value during the run, and one's
last value. An alert's expression returns data only while it fires; its signals are asked instead,
the sides of its comparison. All rules were loaded and evaluated every {PACE_S} s, without errors.

{len(findings)} expressions; {len(METRICS)} registered metrics, all of which appeared, in
{num_series} series.

| where | what | series | value | expression |
|---|---|---|---|---|
"""
    return head + "".join(map(_row, findings))


def _row(finding: Finding) -> str:
    expression = finding.expression.replace("|", "\\|")
    answer = finding.answer
    cells = (
        finding.place,
        finding.title,
        answer.num_series,
        f"{answer.value:.4g}",
        f"`{expression}`",
    )
    return f"| {' | '.join(map(str, cells))} |\n"


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Sets variables that Ray's processes inherit."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def main() -> int:
    """Runs the proof and writes its report."""
    start_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lingbot-proof-") as name, environment(_PACE):
        folder = Path(name)
        config = settings(folder / "data")
        with start_local(config) as local, prometheus(folder / "prometheus", local.url) as server:
            since_s = time.monotonic()
            live(Server(local.url, config))
            time.sleep(3)  # the last second's values, once more around
            findings = ask_all(server)
            found = problems(server, findings)
            num_series = sum(len(server.series(name)) for name in METRIC_OF_SERIES)
            text = report(findings, num_series, time.monotonic() - since_s)
    for problem in found:
        print(problem)
    if not found:
        REPORT.parent.mkdir(parents=True, exist_ok=True)
        REPORT.write_text(text)
        print(f"{len(findings)} expressions return data; see {REPORT}")
    print(f"{time.monotonic() - start_s:.0f} s")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
