"""Everything is killed and started again: accepted jobs are made, finished ones are there."""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from benchmarks.chaos.processes import kill
from deployments.listeners import free_port
from model.checkpoint.layout import CheckpointPaths
from tests.integration.conftest import ENVIRONMENT
from tests.support.processes import living
from tests.support.server import START_PATIENCE_S, body, small_config, wait_for, wait_for_step

LONG = 120  # steps: longer than it takes to queue a few jobs behind
NUM_QUEUED = 3


@contextmanager
def served(config: Path, url: str) -> Iterator[None]:
    """Runs `lingbot-serve serve`, and ends it and all its processes by SIGKILL."""
    command = [sys.executable, "-m", "lingbot_serve", "serve", "--config", str(config)]
    with (config.parent / "serve.log").open("a") as log:
        process = subprocess.Popen(
            command,
            cwd=config.parent,
            env={**os.environ, **ENVIRONMENT},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until_listening(process, url)
        yield
    finally:
        kill_family(process)


def wait_until_listening(process: subprocess.Popen[bytes], url: str) -> None:
    """Returns once the service is ready, seen from outside."""
    deadline_s = time.monotonic() + START_PATIENCE_S
    while True:
        assert process.poll() is None, "the server ended"
        assert time.monotonic() < deadline_s, "the server did not become ready"
        try:
            if httpx.get(f"{url}/readyz", timeout=10).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.3)


def kill_family(process: subprocess.Popen[bytes]) -> None:
    """Ends the server, Ray and every actor, all at once as far as signals allow."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    kill(family)
    process.wait(timeout=60)
    _, left = psutil.wait_procs(family, timeout=60)
    assert living(left) == []


@pytest.fixture
def config(synthetic_checkpoint: CheckpointPaths, tmp_path: Path) -> Path:
    """The small service as a file, with room for a few jobs."""
    settings = small_config(
        synthetic_checkpoint.root, tmp_path / "data", port=free_port(), gang_size=2
    ).model_dump(mode="json", exclude_unset=True)
    settings["gateway"]["limits"]["max_queued_jobs"] = 10
    path = tmp_path / "serve.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.mark.timeout(1200)
def test_a_restart_of_everything_loses_nothing(config: Path) -> None:
    port = yaml.safe_load(config.read_text())["http"]["port"]
    url = f"http://127.0.0.1:{port}"
    with served(config, url), httpx.Client(base_url=url, timeout=60) as client:
        finished = create(client, 3)
        assert wait_for(client, finished)["status"] == "completed"
        clip = digest(client, finished)
        running = [create(client, LONG) for _ in range(2)]
        queued = [create(client, 3) for _ in range(NUM_QUEUED)]
        wait_for_step(client, running[0])
        states = [client.get(f"/v1/videos/{video_id}").json()["status"] for video_id in queued]
        assert states == ["queued"] * NUM_QUEUED
    with served(config, url), httpx.Client(base_url=url, timeout=60) as client:
        assert digest(client, finished) == clip
        for video_id in [*running, *queued]:
            assert wait_for(client, video_id)["status"] == "completed"
            assert client.get(f"/v1/videos/{video_id}/content").status_code == 200
        assert len(client.get("/v1/videos").json()["data"]) == 1 + len(running) + len(queued)


def create(client: httpx.Client, num_steps: int) -> str:
    wanted = body(num_inference_steps=num_steps, prompt=f"{time.monotonic_ns()}")
    return str(client.post("/v1/videos", json=wanted).raise_for_status().json()["id"])


def digest(client: httpx.Client, video_id: str) -> str:
    content = client.get(f"/v1/videos/{video_id}/content").raise_for_status().content
    return hashlib.sha256(content).hexdigest()
