"""One local Ray cluster for all integration tests."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray import serve

from deployments.launch import deploy
from deployments.listeners import free_port
from deployments.readiness import wait_until_ready
from model.checkpoint.layout import CheckpointPaths
from tests.support.server import START_PATIENCE_S, Server, small_config

ROOT = Path(__file__).resolve().parents[2]

# schemathesis is not made for older Pythons.
collect_ignore = [] if sys.version_info >= (3, 11) else ["test_schema.py"]

ENVIRONMENT = {
    # Ray processes inherit these. Without a token Ray writes none into the home directory.
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Tests wait for the metrics, which Ray passes on every ten seconds otherwise.
    "RAY_metrics_report_interval_ms": "2500",
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that start services of their own come before those that share one, which would idle
    beside them."""
    items.sort(key=lambda item: "ray_cluster" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """Ray with 16 logical CPUs, however few there are: tests wait more than they compute."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in ENVIRONMENT.items():
            environment.setenv(name, value)
        if inherited := os.environ.get("RAY_ADDRESS"):
            raise RuntimeError(f"unset RAY_ADDRESS ({inherited}): tests use a cluster of their own")
        ray.init(
            num_cpus=16,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=512 * 2**20,
            # Otherwise 16 workers start at once on what may be 2 cores.
            _system_config={"enable_worker_prestart": False, "prestart_worker_first_driver": False},
        )
        yield
        ray.shutdown()


@pytest.fixture(scope="session")
def server(
    ray_cluster: None,
    synthetic_checkpoint: CheckpointPaths,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    """Both applications over the tiny checkpoint, with one gang of two ranks."""
    port = free_port()
    data_dir = tmp_path_factory.mktemp("data")
    config = small_config(synthetic_checkpoint.root, data_dir, port=port, gang_size=2)
    url = deploy(config, host="127.0.0.1", port=port)
    wait_until_ready(url, timeout_s=START_PATIENCE_S)
    yield Server(url, config)
    serve.shutdown()
