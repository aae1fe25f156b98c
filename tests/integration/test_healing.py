"""What dies after a clip was denoised costs a decode at most."""

import time
from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine

from benchmarks.chaos.processes import controller, kill, replicas
from deployments.jobs.store import JobStore
from deployments.jobs.tables import Job
from tests.support.server import PATIENCE_S, Server, body, wait_for, wait_for_attempt


@pytest.fixture
def jobs(server: Server) -> Iterator[JobStore]:
    store = JobStore(create_engine(server.config.gateway.store_url()))
    yield store
    store.close()


def wait_for_latents(jobs: JobStore, job_id: str) -> Job:
    """Returns once a job's latents are kept and its decoder works."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        job = jobs.get(job_id)
        if job.latents_at is not None and job.stage == "vae_decoder" and job.step:
            return job
        assert not job.is_over
        time.sleep(0.01)
    raise TimeoutError(f"{job_id} is {job.status} at {job.stage}")


def wait_for_duration(jobs: JobStore, job_id: str, stage: str) -> None:
    """Returns once a stage has finished its part of a job."""
    deadline_s = time.monotonic() + PATIENCE_S
    while stage not in jobs.get(job_id).stage_durations:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_a_decoder_that_dies_costs_no_second_denoise(server: Server, jobs: JobStore) -> None:
    [decoder] = replicas("vae_decoder")
    with server.client() as client:
        # Long enough for a decode of seconds even of this model.
        fields = {"num_frames": 81, "size": "112x64", "num_inference_steps": 2}
        video_id = client.post("/v1/videos", json=body(**fields)).json()["id"]
        denoised = wait_for_latents(jobs, video_id)
        kill([decoder])
        wait_for_attempt(jobs, video_id, 2)
        video = wait_for(client, video_id)
        assert video["status"] == "completed", video
        assert client.get(f"/v1/videos/{video_id}/content").status_code == 200
    job = jobs.get(video_id)
    assert (job.attempts, job.failures, job.strikes) == (2, 1, 0)
    assert job.latents_at == denoised.latents_at
    # Measured to the tenth of a millisecond: a second denoise would have taken another time.
    assert job.stage_durations["denoiser"] == denoised.stage_durations["denoiser"]
    kept = server.config.gateway.data_dir / "videos" / video_id / "latents.safetensors"
    assert not kept.exists()


def test_a_video_waits_for_a_store_that_does_not_write(server: Server, jobs: JobStore) -> None:
    with server.client() as client:
        video_id = client.post("/v1/videos", json=body()).json()["id"]
        # Root writes into any folder, but nobody puts a file in a folder's place.
        obstacle = server.config.gateway.data_dir / "videos" / video_id / "1" / "video.mp4"
        obstacle.mkdir(parents=True)
        wait_for_duration(jobs, video_id, "vae_decoder")
        time.sleep(1.0)
        assert jobs.get(video_id).status == "in_progress"
        obstacle.rmdir()
        assert wait_for(client, video_id)["status"] == "completed"
        assert client.get(f"/v1/videos/{video_id}/content").status_code == 200
    assert jobs.get(video_id).attempts == 1


def test_nothing_answers_500_while_serve_s_controller_is_down(server: Server) -> None:
    with server.client() as client:
        kill([controller()])
        until_s = time.monotonic() + 5
        while time.monotonic() < until_s:
            assert client.get("/metrics").status_code == 200
            assert client.get("/readyz").status_code in (200, 503)
            created = client.post("/v1/videos", json=body())
            assert created.status_code in (200, 429, 503), created.text
            time.sleep(0.2)
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < until_s + PATIENCE_S
            time.sleep(0.2)
        for video in client.get("/v1/videos").json()["data"]:
            assert wait_for(client, video["id"])["status"] in ("completed", "failed")
