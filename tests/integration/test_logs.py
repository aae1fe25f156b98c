"""The ids of a job in the log of every process that worked on it, read from Ray's files."""

import json
import time
from pathlib import Path
from typing import Any

import httpx
import ray

from tests.support.server import PATIENCE_S, Server, body, wait_for

PROMPT = "an unmistakable lighthouse"


def log_files() -> list[Path]:
    """What the processes of this test's cluster have written."""
    worker = ray._private.worker._global_node
    return [p for p in Path(worker.get_logs_dir_path()).rglob("*") if p.is_file()]


def events(**wanted: str) -> list[dict[str, Any]]:
    """Events of our processes with these fields."""
    lines = [
        line
        for path in log_files()
        if path.name.startswith("worker-") and path.suffix == ".err"
        for line in path.read_text(errors="replace").splitlines()
    ]
    found = [json.loads(line) for line in lines if line.startswith('{"timestamp"')]
    return [event for event in found if wanted.items() <= event.items()]


def wait_for_events(*names: str, **wanted: str) -> list[dict[str, Any]]:
    """The same, once events of these names are among them: an answer may precede its line."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        found = events(**wanted)
        if {event["event"] for event in found} >= set(names):
            return found
        assert time.monotonic() < deadline_s, found
        time.sleep(0.1)


def test_every_process_names_the_job_and_the_request(server: Server) -> None:
    with server.client() as client:
        created = client.post(
            "/v1/videos", json=body(prompt=PROMPT), headers={"x-request-id": "order-66"}
        )
        assert created.headers["x-request-id"] == "order-66"
        job_id = created.json()["id"]
        assert wait_for(client, job_id)["status"] == "completed"
    found = wait_for_events("job_completed", job_id=job_id, request_id="order-66")
    names = {(e["logger"], e["event"]) for e in found}
    assert names == {
        ("deployments.jobs.intake", "job_accepted"),
        ("deployments.jobs.driver", "job_started"),
        ("deployments.jobs.driver", "job_completed"),
        ("deployments.stage_clock", "stage_finished"),
        ("cluster.gang", "gang_job_started"),
        ("cluster.gang", "gang_job_ended"),
        ("cluster.rank", "rank_job_ended"),
    }
    finished = {e["stage"] for e in found if e["event"] == "stage_finished"}
    assert finished == {"text_encoder", "image_encoder", "vae_encoder", "denoiser", "vae_decoder"}
    ranks = [e for e in found if e["event"] == "rank_job_ended"]
    assert sorted(e["rank"] for e in ranks) == [0, 1]
    gangs = {e["gang_id"] for e in found if "gang_id" in e}
    assert len(gangs) == 1
    assert {e["event"] for e in events(gang_id=gangs.pop())} >= {"gang_ready", "rank_ready"}
    assert all(e["node"] for e in found)


def test_a_refused_request_is_an_event(server: Server) -> None:
    headers = {"x-request-id": "order-67"}
    with server.client() as client:
        refused = client.post("/v1/videos", json=body(size="big"), headers=headers)
    assert refused.status_code == 400
    found = wait_for_events("request_refused", request_id="order-67")
    [event] = [e for e in found if e["event"] == "request_refused"]
    assert (event["code"], event["param"]) == ("invalid_value", "size")


def test_serves_own_lines_have_the_same_shape(server: Server) -> None:
    with httpx.Client(base_url=server.url) as client:
        client.get("/healthz", headers={"x-request-id": "order-68"}).raise_for_status()
    deadline_s = time.monotonic() + PATIENCE_S
    while not (found := events(request_id="order-68", logger="ray.serve")):
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    assert "/healthz" in found[0]["event"] and found[0]["stage"] == "gateway"


def test_no_file_of_the_cluster_holds_a_prompt(server: Server) -> None:
    files = log_files()
    assert len(files) > 10
    assert [p.name for p in files if b"unmistakable lighthouse" in p.read_bytes()] == []
