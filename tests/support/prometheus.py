"""A real Prometheus beside a local cluster: what it scrapes, and what it answers."""

import json
import math
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import ray
import yaml

from deployments.listeners import free_port
from monitoring.generate import GROUPS
from monitoring.rules.rule import Record
from tests.support.server import PATIENCE_S

INSTALLED = shutil.which("prometheus") is not None
# A run lasts minutes, not days: windows as the rules have them, and as they are here.
SHORT_WINDOWS = {
    "5m": "20s",
    "10m": "30s",
    "30m": "40s",
    "1h": "60s",
    "6h": "120s",
    "3d": "240s",
    "$__rate_interval": "20s",
    "$__range": "240s",
}
# Every scrape costs Ray's agent a good part of a second.
PACE_S = 5
# Ray's agent hears of a change within 2.5 s, by the environment of those who use this.
REPORTED_S = 5.0
SCRAPED_S = REPORTED_S + PACE_S


@dataclass(frozen=True)
class Answer:
    """What an expression returned: series that had a number at some time, and one's last value."""

    num_series: int
    value: float = math.nan


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus.

    Args:
        url: Its address.
        since_s: Unix time at which it began.
    """

    url: str
    since_s: float

    def ask(self, expression: str) -> Answer:
        """Evaluates an expression over the whole run, with shortened windows."""
        window = {"start": self.since_s, "end": time.time(), "step": PACE_S}
        series = self._get("query_range", query=shorten(expression), **window)["result"]
        numbers = [
            [float(value) for _, value in each["values"] if not math.isnan(float(value))]
            for each in series
        ]
        found = [values for values in numbers if values]
        return Answer(len(found), found[0][-1]) if found else Answer(0)

    def series(self, selector: str) -> list[dict[str, str]]:
        """Labels of all series that a selector has matched during the run."""
        found: list[dict[str, str]] = self._get("series", **{"match[]": selector})
        return found

    def names(self) -> set[str]:
        """Names of all series."""
        return set(self._get("label/__name__/values"))

    def wait_healthy(self, num_targets: int, timeout_s: float = PATIENCE_S) -> None:
        """Until the last scrape of so many addresses succeeded; one may fail on a busy machine."""
        deadline_s = time.monotonic() + timeout_s
        while sum(each["health"] == "up" for each in self._targets()) < num_targets:
            assert time.monotonic() < deadline_s, self._targets()
            time.sleep(0.5)

    def rule_problems(self) -> list[str]:
        """Rules that Prometheus could not evaluate."""
        groups = self._get("rules")["groups"]
        return [
            f"{rule['name']}: {rule['lastError']}"
            for group in groups
            for rule in group["rules"]
            if rule.get("lastError")
        ]

    def _targets(self) -> list[dict[str, Any]]:
        targets: list[dict[str, Any]] = self._get("targets", state="active")["activeTargets"]
        return targets

    def _get(self, path: str, **parameters: Any) -> Any:
        response = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=30)
        answer = response.json()
        assert answer["status"] == "success", (path, parameters, answer)
        return answer["data"]


@contextmanager
def prometheus(folder: Path, gateway_url: str) -> Iterator[Prometheus]:
    """Scrapes the connected Ray's nodes and a gateway, again and again, until the context ends.

    Args:
        folder: For its configuration and its data.
        gateway_url: Address of the gateway.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_ray_targets(folder / "ray.json")
    (folder / "rules.yaml").write_text(yaml.safe_dump(short_rules()))
    scrape = [
        {"job_name": "ray", "file_sd_configs": [{"files": ["ray.json"], "refresh_interval": "1s"}]},
        {
            "job_name": "gateway",
            "static_configs": [{"targets": [gateway_url.removeprefix("http://")]}],
        },
    ]
    every = f"{PACE_S}s"
    pace = {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every}
    config = {"global": pace, "rule_files": ["rules.yaml"], "scrape_configs": scrape}
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
            ],
            stderr=log,
        )
        try:
            yield _when_ready(f"http://{address}", folder / "log")
        finally:
            process.terminate()
            process.wait(timeout=30)


def write_ray_targets(path: Path) -> None:
    """The metrics address of every living node, as Ray's dashboard writes it for Prometheus."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    targets = [f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}" for node in nodes]
    path.write_text(json.dumps([{"labels": {"job": "ray"}, "targets": targets}]))


def short_rules() -> dict[str, Any]:
    """All rules with short windows, evaluated often; alerts fire at once."""
    groups = [group.render("docs/runbooks") for group in GROUPS]
    for group in groups:
        group["interval"] = f"{PACE_S}s"
        for rule in group["rules"]:
            rule["expr"] = shorten(rule["expr"])
            if "for" in rule:
                rule["for"] = "0s"
    return {"groups": groups}


def shorten(expression: str) -> str:
    """An expression with the windows of a short run, and every gang chosen."""
    windows = "|".join(map(re.escape, SHORT_WINDOWS))
    short = re.sub(rf"\[({windows})\]", lambda found: f"[{SHORT_WINDOWS[found[1]]}]", expression)
    return short.replace("$gang", ".*")


def recorded_names() -> set[str]:
    """Names that the recording rules make."""
    return {rule.name for group in GROUPS for rule in group.rules if isinstance(rule, Record)}


def _when_ready(url: str, log: Path) -> Prometheus:
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        try:
            if httpx.get(f"{url}/-/ready", timeout=1).status_code == 200:
                return Prometheus(url, time.time())
        except httpx.TransportError:
            time.sleep(0.1)
    raise TimeoutError(log.read_text())
