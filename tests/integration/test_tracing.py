"""One job, one trace: from the caller's header to a collector that is a process of its own."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from ray import serve

from deployments.app import build_gateway
from deployments.gateway_config import TracingConfig
from tests.integration.test_logs import events
from tests.support.server import Server, body, wait_for

NUM_STEPS = 3
TRACE_ID, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
STAGES = {"text_encoder", "image_encoder", "vae_encoder", "denoiser", "vae_decoder"}
Span = dict[str, Any]


@dataclass(frozen=True)
class Collector:
    """A running receiver and what it has written."""

    url: str
    path: Path

    def spans(self) -> list[Span]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    path = tmp_path_factory.mktemp("spans") / "spans.jsonl"
    path.touch()
    command = [sys.executable, "-m", "tests.support.otlp_receiver", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield Collector(f"http://127.0.0.1:{int(process.stdout.readline())}", path)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def traced_job(server: Server, collector: Collector, tmp_path_factory: Any) -> str:
    """A job made through a second gateway, which traces, and is gone afterwards."""
    changes = {
        "data_dir": tmp_path_factory.mktemp("traced"),
        "tracing": TracingConfig(otlp_endpoint=collector.url),
    }
    gateway = server.config.gateway.model_copy(update=changes)
    serve.run(build_gateway(gateway), name="traced", route_prefix="/traced")
    headers = {"traceparent": f"00-{TRACE_ID}-{CALLER}-01", "x-request-id": "order-99"}
    with httpx.Client(base_url=f"{server.url}/traced", timeout=120) as client:
        wanted = body(num_inference_steps=NUM_STEPS)
        job_id = client.post("/v1/videos", json=wanted, headers=headers).json()["id"]
        assert wait_for(client, job_id)["status"] == "completed"
    serve.delete("traced")
    return job_id


def test_one_job_is_one_trace_with_all_stages_and_steps(
    traced_job: str, collector: Collector
) -> None:
    spans = collector.spans()
    assert {s["trace_id"] for s in spans} == {TRACE_ID}
    assert {s["service"] for s in spans} == {"lingbot-serve"}
    [root] = [s for s in spans if s["name"] == "video"]
    assert (root["parent_id"], root["job_id"]) == (CALLER, traced_job)
    children = [s for s in spans if s["parent_id"] == root["span_id"]]
    assert sorted(s["name"] for s in children) == sorted(STAGES | {"queue"})
    [denoiser] = [s for s in children if s["name"] == "denoiser"]
    steps = [s for s in spans if s["parent_id"] == denoiser["span_id"]]
    assert [s["name"] for s in steps] == ["gang_queue", *["step"] * NUM_STEPS]
    assert len(spans) == 1 + len(children) + len(steps)


def test_spans_lie_where_their_work_was(traced_job: str, collector: Collector) -> None:
    spans = {s["name"]: s for s in collector.spans()}
    for span in collector.spans():
        assert spans["video"]["start_ns"] <= span["start_ns"] <= span["end_ns"]
        assert span["end_ns"] <= spans["video"]["end_ns"]
    order = ["queue", "vae_encoder", "denoiser", "vae_decoder"]
    starts = [spans[name]["start_ns"] for name in order]
    assert starts == sorted(starts)
    assert spans["vae_encoder"]["end_ns"] <= spans["denoiser"]["start_ns"]
    assert spans["denoiser"]["end_ns"] <= spans["vae_decoder"]["start_ns"]
    assert spans["step"]["end_ns"] <= spans["denoiser"]["end_ns"]


def test_the_log_names_the_trace_in_every_process(traced_job: str) -> None:
    found = events(job_id=traced_job, request_id="order-99", trace_id=TRACE_ID)
    loggers = {event["logger"] for event in found}
    assert loggers >= {
        "deployments.jobs.driver",
        "deployments.stage_clock",
        "cluster.gang",
        "cluster.rank",
    }


def test_a_gateway_without_a_collector_traces_nothing(
    server: Server, collector: Collector, traced_job: str
) -> None:
    before = len(collector.spans())
    with server.client() as client:
        job_id = client.post("/v1/videos", json=body()).json()["id"]
        assert wait_for(client, job_id)["status"] == "completed"
    assert len(collector.spans()) == before
    assert not any("trace_id" in event for event in events(job_id=job_id))
