"""What a service meets in its life, within a minute: jobs, and what befalls them."""

import time

import httpx

from benchmarks.chaos.processes import kill, ranks
from lingbot_serve.canary import send_canary
from tests.support.prometheus import SCRAPED_S
from tests.support.server import (
    PATIENCE_S,
    Server,
    body,
    camera,
    wait_for,
    wait_for_step,
    wait_until_struck,
)

LONG = 1000


def good_jobs(client: httpx.Client, number: int = 2) -> None:
    """Jobs that are completed, with and without a deadline, some with a prompt seen before."""
    fields = [{}, {"deadline_s": 600}, {"num_frames": 17, "camera": camera(17)}]
    wanted = [body(seed=n, **fields[n % len(fields)]) for n in range(number)]
    ids = [client.post("/v1/videos", json=each).json()["id"] for each in wanted]
    for video_id in ids:
        assert wait_for(client, video_id)["status"] == "completed"


def missed_deadline(client: httpx.Client) -> None:
    """A job that is completed after its deadline."""
    wanted = body(deadline_s=0.5, num_inference_steps=30)
    video_id = client.post("/v1/videos", json=wanted).json()["id"]
    assert wait_for(client, video_id)["status"] == "completed"


def refused_job(client: httpx.Client) -> None:
    """A request that is refused."""
    assert client.post("/v1/videos", json=body(prompt="")).status_code == 400


def cancelled_job(client: httpx.Client) -> None:
    """A job that is deleted while its gang works on it."""
    video_id = client.post("/v1/videos", json=body(num_inference_steps=LONG)).json()["id"]
    wait_for_step(client, video_id)
    client.delete(f"/v1/videos/{video_id}").raise_for_status()


def killed_ranks(client: httpx.Client) -> None:
    """A rank's process is killed under each of a job's two attempts, and the gang heals.

    What a process counted and did not report ends with it, and a rate needs a value before what
    comes next: so the old ranks are scraped once more, and the new ones once.
    """
    time.sleep(SCRAPED_S)
    video_id = client.post("/v1/videos", json=body(num_inference_steps=LONG)).json()["id"]
    for _ in range(2):
        wait_for_step(client, video_id)
        kill(ranks())  # of all gangs: those that work answer no call, and nobody tells which do
        wait_until_struck(client, video_id)
    assert wait_for(client, video_id)["error"]["code"] == "poison_job"
    good_jobs(client, 1)
    time.sleep(SCRAPED_S)


def full_queue(client: httpx.Client, max_jobs: int) -> None:
    """More jobs than may wait; all are deleted again."""
    long = body(num_inference_steps=LONG)
    answers = [client.post("/v1/videos", json=long) for _ in range(max_jobs + 1)]
    assert answers[-1].status_code == 429
    for answer in answers[:-1]:
        client.delete(f"/v1/videos/{answer.json()['id']}").raise_for_status()


def canary(server: Server) -> None:
    """The canary, as its CronJob sends it."""
    assert send_canary(server.url, timeout_s=PATIENCE_S).num_frames == 5
