"""The pipeline as Serve sees it: what the checkpoint decides, and what is kept."""

from pathlib import Path

import numpy as np
from ray import serve

from deployments.app import build_pipeline
from deployments.ids import JobIds
from deployments.messages import GenerateRequest, VideoResult
from deployments.names import PIPELINE
from model.checkpoint.synthetic import TINY, write_synthetic_checkpoint
from model.types import SamplerSettings, VideoShape
from tests.support.server import Server, small_config

SETTINGS = SamplerSettings(num_inference_steps=2)


def request(prompt: str) -> GenerateRequest:
    return GenerateRequest(
        ids=JobIds(prompt),
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
