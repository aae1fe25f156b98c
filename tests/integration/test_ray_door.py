"""An embedded cluster takes orders from its owner alone."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from ray.util import get_node_ip_address

from tests.support.processes import listening_ports

ROOT = Path(__file__).resolve().parents[2]
_START = """
import ray, sys
from deployments.launch import start_ray
start_ray(num_cpus=1)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
ray.shutdown()
"""
_CONNECT = """
import ray, sys
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
print("connected", flush=True)
"""


@dataclass(frozen=True)
class Cluster:
    """A cluster of another process.

    Args:
        process: Its driver.
        address: Of its GCS.
        home: Where the token is.
    """

    process: psutil.Process
    address: str
    home: Path

    @property
    def ports(self) -> set[int]:
        """Where its processes listen."""
        processes = [self.process, *self.process.children(recursive=True)]
        return {port for each in processes for port in listening_ports(each)}


def environment(home: Path, **more: str) -> dict[str, str]:
    """What a user has who never heard of Ray's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    own = {"HOME": str(home), "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    return {**kept, **own, **more}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("home")
    process = subprocess.Popen(
        [sys.executable, "-c", _START],
        env=environment(home),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    address = next(line.strip() for line in process.stdout if ":" in line)
    yield Cluster(psutil.Process(process.pid), address, home)
    try:
        process.communicate("", timeout=60)
    finally:
        process.send_signal(signal.SIGKILL)


def connect(cluster: Cluster, **more: str) -> subprocess.CompletedProcess[str]:
    """Another driver tries to join."""
    command = [sys.executable, "-c", _CONNECT, cluster.address]
    return subprocess.run(
        command,
        env=environment(cluster.home, **more),
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_only_the_owners_token_opens_the_cluster(cluster: Cluster) -> None:
    token = cluster.home / ".ray" / "auth_token"
    assert connect(cluster, RAY_AUTH_MODE="token").stdout == "connected\n"
    another = "0" * len(token.read_text())
    refused = connect(cluster, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=another)
    assert refused.returncode != 0
    assert "connected" not in refused.stdout


def test_nobody_answers_where_jobs_would_be_sent(cluster: Cluster) -> None:
    ports = cluster.ports
    assert int(cluster.address.rpartition(":")[2]) in ports
    for port in ports:
        for host in {"127.0.0.1", get_node_ip_address()}:
            try:
                answer = httpx.get(f"http://{host}:{port}/api/jobs/", timeout=5, trust_env=False)
            except httpx.HTTPError:
                continue  # not listening there, or no web server
            # Ray's exporters answer any path with their metrics; no token is asked for those.
            if not answer.text.startswith("# HELP"):
                assert answer.status_code in (401, 403, 404), f"{host}:{port}: {answer.text[:200]}"
