"""The two applications as Serve sees them: what the checkpoint decides, and redeploying one."""

import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import ray
from ray import serve

from deployments.app import build_gateway, build_pipeline
from deployments.launch import wait_until_ready
from deployments.messages import GenerateRequest, VideoResult
from deployments.names import GATEWAY, PIPELINE
from model.checkpoint.synthetic import TINY, write_synthetic_checkpoint
from model.types import SamplerSettings, VideoShape
from tests.support.server import Server, body, small_config, wait_for, wait_for_step

SETTINGS = SamplerSettings(num_inference_steps=2)


def request(prompt: str) -> GenerateRequest:
    return GenerateRequest(
        job_id=prompt,
        prompt=prompt,
        negative_prompt="",
        image=np.zeros((56, 96, 3), np.uint8),
        camera=None,
        shape=VideoShape(num_frames=5, height=32, width=48),
        sampler=SETTINGS,
        seed=1,
        return_tensors=True,
    )


def generate(app: str, wanted: GenerateRequest) -> VideoResult:
    *_, last = serve.get_app_handle(app).options(stream=True).generate.remote(wanted)
    assert isinstance(last, VideoResult)
    return last


def test_a_checkpoint_without_the_image_branch_leaves_clip_out(
    server: Server, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint"
    write_synthetic_checkpoint(checkpoint, seed=0, size=TINY, image_branch=False)
    config = small_config(checkpoint, tmp_path, port=1024, gang_size=1)
    serve.run(build_pipeline(config.pipeline), name="plain", route_prefix=None)
    applications = serve.status().applications
    assert "image_encoder" in applications[PIPELINE].deployments
    assert "image_encoder" not in applications["plain"].deployments
    result = generate("plain", request("no clip"))
    assert result.latents is not None
    assert result.latents.shape == (16, 2, 4, 6)
    serve.delete("plain")


def test_a_prompt_is_encoded_once(server: Server) -> None:
    text_encoder = serve.get_deployment_handle("text_encoder", PIPELINE)
    hits = text_encoder.cache_hits.remote().result()
    first = generate(PIPELINE, request("told twice"))
    second = generate(PIPELINE, request("told twice"))
    assert text_encoder.cache_hits.remote().result() >= hits + 2
    np.testing.assert_array_equal(first.latents, second.latents)


def denoiser_actors() -> set[str]:
    """Names of the replicas that own gangs; a restarted one has another."""
    names = ray.util.list_named_actors(all_namespaces=True)
    return {entry["name"] for entry in names if "#denoiser#" in entry["name"]}


def test_the_gateway_drains_and_is_redeployed_while_the_gang_lives(server: Server) -> None:
    gang = denoiser_actors()
    assert gang
    with server.client() as client:
        running = client.post("/v1/videos", json=body(num_inference_steps=60)).json()["id"]
        wait_for_step(client, running)
        drained = serve.get_app_handle(GATEWAY).drain.remote(60.0)
        refused = wait_for_refusal(client)
        assert refused.headers["retry-after"]
        assert refused.json()["error"]["code"] == "draining"
        drained.result(timeout_s=60)
        assert client.get(f"/v1/videos/{running}").json()["status"] == "completed"
    serve.run(build_gateway(server.config.gateway), name=GATEWAY, route_prefix="/")
    wait_until_ready(server.url, timeout_s=120)
    assert denoiser_actors() == gang
    with server.client() as client:
        assert client.get(f"/v1/videos/{running}").json()["status"] == "completed"
        again = client.post("/v1/videos", json=body()).json()["id"]
        assert wait_for(client, again)["status"] == "completed"


def wait_for_refusal(client: httpx.Client) -> httpx.Response:
    for _ in range(100):
        response = client.post("/v1/videos", json=body())
        if response.status_code == 503:
            return response
        client.delete(f"/v1/videos/{response.json()['id']}")
        time.sleep(0.05)
    pytest.fail("the gateway never refused a request")
