"""A rank dies under a clip: its owner hears why, everybody else is served."""

import os
import signal
import time

from ray import serve

from deployments.names import PIPELINE
from tests.support.server import Server, body, wait_for, wait_for_step


def rank_pids() -> list[int]:
    denoiser = serve.get_deployment_handle("denoiser", PIPELINE)
    return [place.pid for place in denoiser.places.remote().result()]


def test_a_killed_rank_fails_its_clip_and_no_other(server: Server) -> None:
    before = rank_pids()
    with server.client() as client:
        struck = client.post("/v1/videos", json=body(num_inference_steps=400)).json()["id"]
        wait_for_step(client, struck)
        waiting = client.post("/v1/videos", json=body()).json()["id"]
        os.kill(before[1], signal.SIGKILL)
        killed_s = time.monotonic()
        video = wait_for(client, struck)
        noticed_s = time.monotonic() - killed_s
        assert (video["status"], video["error"]["code"]) == ("failed", "rank_died")
        assert video["error"]["message"] == "the process of rank 1 died"
        assert noticed_s < 5  # 2 s on a machine of one's own
        assert wait_for(client, waiting, timeout_s=120)["status"] == "completed"
        assert client.get("/readyz").status_code == 200
    assert not set(before) & set(rank_pids())
