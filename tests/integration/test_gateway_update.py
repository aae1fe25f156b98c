"""Gateways come and go, by update and by death; their jobs stay."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import ray
from ray import serve
from sqlalchemy import Engine, create_engine

from deployments.app import build_gateway
from deployments.jobs.store import JobStore
from deployments.jobs.tables import Job
from deployments.names import GATEWAY
from tests.support.server import PATIENCE_S, Server, body, wait_for, wait_for_step

LONG = 150  # steps: seconds
LONGEST = 500  # steps: longer than a gateway takes to start


@pytest.fixture
def jobs(server: Server) -> Iterator[JobStore]:
    """The jobs as the gateways see them."""
    engine: Engine = create_engine(server.config.gateway.store_url())
    yield JobStore(engine)
    engine.dispose()


def create(client: httpx.Client, **fields: object) -> str:
    return str(client.post("/v1/videos", json=body(**fields)).raise_for_status().json()["id"])


def update_gateway(server: Server) -> None:
    """Redeploys the gateway with other settings and does not wait."""
    changed = server.config.gateway.model_copy(update={"pipeline_timeout_s": 11.0})
    target = serve.RunTarget(build_gateway(changed), name=GATEWAY, route_prefix="/")
    serve.run_many([target], wait_for_applications_running=False)


def wait_for_old_gateway_to_stop() -> None:
    """Returns once a new gateway runs and the old one has been told to stop."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        gateways = serve.status().applications[GATEWAY].deployments[GATEWAY]
        if {"RUNNING", "STOPPING"} <= set(gateways.replica_states):
            return
        time.sleep(0.1)
    raise TimeoutError(f"the gateway was not replaced: {gateways}")


def denoiser_actors() -> set[str]:
    """Names of the replicas that own gangs; a restarted one has another."""
    names = ray.util.list_named_actors(all_namespaces=True)
    return {entry["name"] for entry in names if "#denoiser#" in entry["name"]}


def gateway_pid(job: Job) -> int:
    """The process that works on a job, which its owner's name tells."""
    assert job.owner is not None
    return int(job.owner.split("-")[-2])


def wait_for_gateway(server: Server) -> None:
    """Returns once a gateway answers again."""
    deadline_s = time.monotonic() + PATIENCE_S
    with server.client() as client:
        while time.monotonic() < deadline_s:
            if client.get("/healthz").status_code == 200:
                return
            time.sleep(0.1)
    raise TimeoutError("no gateway answers")


@contextmanager
def polling(server: Server, video_id: str) -> Iterator[list[str]]:
    """Polls a video all the while; yields what went wrong, as it comes."""
    faults: list[str] = []
    over = threading.Event()

    def poll() -> None:
        with server.client() as client:
            while not over.wait(0.02):
                try:
                    answer = client.get(f"/v1/videos/{video_id}")
                except httpx.HTTPError as error:
                    faults.append(repr(error))
                else:
                    if answer.status_code != 200:
                        faults.append(f"{answer.status_code}: {answer.text}")

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield faults
    finally:
        over.set()
        thread.join()


def test_an_updated_gateway_leaves_running_jobs_alone(server: Server, jobs: JobStore) -> None:
    gang = denoiser_actors()
    with server.client() as client:
        running = create(client, num_inference_steps=LONGEST)
        stopped = create(client, num_inference_steps=LONGEST)
        wait_for_step(client, running)
        old = jobs.get(running).owner
        with polling(server, running) as faults:
            update_gateway(server)
            wait_for_old_gateway_to_stop()
            waiting = create(client)
            # The old gateway, which makes this one, takes no requests any more.
            assert client.delete(f"/v1/videos/{stopped}").status_code == 200
            assert wait_for(client, waiting)["status"] == "completed"
            assert wait_for(client, running)["status"] == "completed"
        assert faults == []
        assert client.get(f"/v1/videos/{running}/content").headers["content-type"] == "video/mp4"
    finished, next_one = jobs.get(running), jobs.get(waiting)
    assert (finished.owner, finished.attempts) == (old, 1)
    assert next_one.owner not in (old, None)
    assert denoiser_actors() == gang


def test_a_drained_gateway_finishes_and_claims_no_more(server: Server, jobs: JobStore) -> None:
    with server.client() as client:
        running = [create(client, num_inference_steps=60) for _ in range(2)]
        waiting = create(client)
        wait_for_step(client, running[0])
        drained = serve.get_app_handle(GATEWAY).drain.remote(60.0)
        refused = wait_for_refusal(client)
        assert refused.headers["retry-after"]
        assert refused.json()["error"]["code"] == "draining"
        drained.result(timeout_s=PATIENCE_S)
        ends = [client.get(f"/v1/videos/{video_id}").json()["status"] for video_id in running]
        assert ends == ["completed", "completed"]
        assert client.get(f"/v1/videos/{waiting}").json()["status"] == "queued"
        os.kill(gateway_pid(jobs.get(running[0])), signal.SIGKILL)
        wait_for_gateway(server)
        assert wait_for(client, waiting)["status"] == "completed"


def wait_for_refusal(client: httpx.Client) -> httpx.Response:
    for _ in range(100):
        response = client.post("/v1/videos", json=body())
        if response.status_code == 503:
            return response
        client.delete(f"/v1/videos/{response.json()['id']}")
        time.sleep(0.05)
    pytest.fail("the gateway never refused a request")


def test_a_job_outlives_its_gateway(server: Server, jobs: JobStore) -> None:
    with server.client() as client:
        struck = create(client, num_inference_steps=LONG)
        wait_for_step(client, struck)
        os.kill(gateway_pid(jobs.get(struck)), signal.SIGKILL)
        wait_for_gateway(server)
        assert wait_for(client, struck)["status"] == "completed"
        assert client.get(f"/v1/videos/{struck}/content").status_code == 200
    assert jobs.get(struck).attempts == 2
