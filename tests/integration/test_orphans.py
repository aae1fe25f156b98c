"""Two gangs, and nobody left who reads a clip: it is taken over, or ended where nobody wants it."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray import serve
from sqlalchemy import create_engine

from benchmarks.chaos.jobs import denoises
from benchmarks.chaos.processes import kill, replicas
from deployments.app import build_pipeline
from deployments.jobs.store import JobStore
from deployments.names import GATEWAY, PIPELINE
from tests.support.server import PATIENCE_S, Server, body, wait_for, wait_for_attempt, wait_for_step

LONG, LONGEST = 300, 1000  # steps: the longest outlasts a pipeline's start
NUM_GANGS = 2


def redeploy(server: Server, num_gangs: int) -> None:
    config = server.config.pipeline
    denoiser = config.denoiser.model_copy(update={"num_replicas": num_gangs})
    changed = config.model_copy(update={"denoiser": denoiser})
    serve.run(build_pipeline(changed), name=PIPELINE, route_prefix=None)
    deadline_s = time.monotonic() + PATIENCE_S
    with server.client() as client:
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline_s
            time.sleep(0.2)


@pytest.fixture(scope="module")
def two_gangs(server: Server) -> Iterator[Server]:
    """The tests' own service with a gang beside its one: a clip may come to either."""
    redeploy(server, NUM_GANGS)
    yield server
    redeploy(server, server.config.pipeline.denoiser.num_replicas)


@pytest.fixture
def jobs(server: Server) -> Iterator[JobStore]:
    store = JobStore(create_engine(server.config.gateway.store_url()))
    yield store
    store.close()


def logs_dir() -> Path:
    return Path(ray.get_runtime_context().worker.node.get_logs_dir_path())


def ends_of(video_id: str) -> list[str]:
    """What gangs have logged as they let go of a clip."""
    logs = (path.read_text(errors="replace") for path in logs_dir().glob("worker-*.err"))
    lines = (line for log in logs for line in log.splitlines())
    return [line for line in lines if video_id in line and "gang_job_ended" in line]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("struck", [PIPELINE, GATEWAY])
def test_a_clip_whose_reader_died_is_denoised_once(
    two_gangs: Server, jobs: JobStore, struck: str
) -> None:
    with two_gangs.client() as client:
        fields = {"num_inference_steps": LONG, "prompt": f"orphan of the {struck}"}
        video_id = client.post("/v1/videos", json=body(**fields)).json()["id"]
        wait_for_step(client, video_id, at_least=5)
        kill(replicas(struck))
        wait_for_attempt(jobs, video_id, 2)
    wait_until_over(jobs, video_id)
    with two_gangs.client() as client:
        assert wait_for(client, video_id)["status"] == "completed"
    assert denoises(logs_dir(), video_id).begun == 1


@pytest.mark.timeout(900)
def test_a_deleted_clip_whose_pipeline_died_leaves_its_gang(two_gangs: Server) -> None:
    with two_gangs.client() as client:
        fields = {"num_inference_steps": LONGEST, "num_frames": 81, "prompt": "nobody's clip"}
        video_id = client.post("/v1/videos", json=body(**fields)).json()["id"]
        wait_for_step(client, video_id, at_least=2)
        kill(replicas(PIPELINE))
        assert client.delete(f"/v1/videos/{video_id}").status_code == 200
    deadline_s = time.monotonic() + PATIENCE_S
    while not (ends := ends_of(video_id)):
        assert time.monotonic() < deadline_s, "the gang goes on for nobody"
        time.sleep(0.2)
    assert len(ends) == 1
    assert "was cancelled" in ends[0]


def wait_until_over(jobs: JobStore, video_id: str) -> None:
    """Looks past the gateway, which may be the one that was struck."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not jobs.get(video_id).is_over:
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
