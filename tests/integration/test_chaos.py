"""Parts of the service die under jobs, and the jobs come through: `make chaos`, the short form."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import torch
from sqlalchemy import create_engine

from benchmarks.chaos.cell import run_cell
from benchmarks.chaos.service import Service
from benchmarks.chaos.states import State
from benchmarks.chaos.strikes import Strike
from lingbot_serve.bench.machine import origin
from tests.support.server import PATIENCE_S, Server

CELLS = [
    (Strike.RANK, State.DENOISING),
    (Strike.ENCODER, State.ENCODING),
    (Strike.DECODER, State.DECODING),
    (Strike.PIPELINE, State.DECODING),
    (Strike.GATEWAY, State.DECODING),
    (Strike.ARTIFACTS, State.STORING),
]


@pytest.fixture(scope="module")
def service(server: Server) -> Iterator[Service]:
    """The tests' own service, as strikes see it."""
    engine = create_engine(server.config.gateway.store_url())
    logs_dir = Path(ray.get_runtime_context().worker.node.get_logs_dir_path())
    service = Service(server.url, server.config, engine, logs_dir)
    yield service
    service.wait_until_whole(timeout_s=PATIENCE_S)
    engine.dispose()


@pytest.mark.parametrize(
    ("what", "state"), CELLS, ids=lambda part: part.value if isinstance(part, str) else None
)
def test_jobs_come_through(service: Service, what: Strike, state: State) -> None:
    row = run_cell(service, what, state, origin(torch.device("cpu"), "tests"))
    assert row.faults == []
    assert row.outcome == "completed"
    assert set(row.bystanders) == {"completed"}
    assert row.denoises == (2 if state is State.DENOISING else 1)
