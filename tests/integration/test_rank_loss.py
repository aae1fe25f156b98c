"""Ranks die under a clip: it is made again on the healed gang, once, and everybody is served."""

import os
import signal

import httpx
from ray import serve
from sqlalchemy import create_engine

from deployments.jobs.store import JobStore
from deployments.names import PIPELINE
from tests.support.server import Server, body, wait_for, wait_for_attempt, wait_for_step


def rank_pids() -> list[int]:
    denoiser = serve.get_deployment_handle("denoiser", PIPELINE)
    return [place.pid for place in denoiser.places.remote().result()]


def create(client: httpx.Client, **fields: object) -> str:
    return str(client.post("/v1/videos", json=body(**fields)).raise_for_status().json()["id"])


def test_a_clip_outlives_one_gang_and_is_poison_to_the_second(server: Server) -> None:
    jobs = JobStore(create_engine(server.config.gateway.store_url()))
    with server.client() as client:
        before = rank_pids()
        struck = create(client, num_inference_steps=1000)
        wait_for_step(client, struck, at_least=50)
        os.kill(before[1], signal.SIGKILL)
        wait_for_attempt(jobs, struck, 2)
        assert jobs.get(struck).strikes == 1
        # The other ranks go on from what was kept, not from noise.
        assert wait_for_step(client, struck)["step"] >= 40
        after = rank_pids()
        waiting = create(client)
        assert not set(before) & set(after)
        os.kill(after[0], signal.SIGKILL)
        video = wait_for(client, struck)
        assert (video["status"], video["error"]["code"]) == ("failed", "poison_job")
        assert "the process of rank 0 died" in video["error"]["message"]
        assert wait_for(client, waiting)["status"] == "completed"
        assert jobs.get(waiting).strikes == 0
        assert client.get("/readyz").status_code == 200
    jobs.close()
