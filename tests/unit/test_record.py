"""What a video's record says, and what tells two checkpoints apart."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from deployments.ids import JobIds
from deployments.messages import GenerateRequest
from deployments.pipeline_config import PipelineConfig
from deployments.record import Origin, origin_of, record_of
from model.checkpoint.fingerprint import EDGE_BYTES, Fingerprint, fingerprint
from model.checkpoint.layout import CheckpointPaths
from model.types import CameraPath, DenoiserFacts, SamplerSettings, VideoShape

FACTS = DenoiserFacts("sdpa", "none", False, False, 2, 2, "float32", load_s=1.0, warm_up_s=2.0)


def request() -> GenerateRequest:
    return GenerateRequest(
        ids=JobIds("video_1"),
        prompt="a house",
        negative_prompt="rain",
        image=np.arange(18, dtype=np.uint8).reshape(2, 3, 3),
        camera=CameraPath(np.tile(np.eye(4), (9, 1, 1)), np.ones((1, 4))),
        shape=VideoShape(num_frames=9, height=64, width=96),
        sampler=SamplerSettings(num_inference_steps=3),
        seed=7,
        size="112x64",
    )


def origin() -> Origin:
    return origin_of(PipelineConfig(checkpoint=Path("/x")), Fingerprint("ab", "content"))


def test_a_record_is_json_that_names_everything_that_computes() -> None:
    record = json.loads(json.dumps(record_of(request(), origin(), FACTS)))
    assert record["checkpoint"] == {"sha256": "ab", "covers": "content"}
    assert {"torch", "ray", "diffusers"} <= set(record["versions"])
    assert record["denoiser"]["attention"] == "sdpa"
    assert "load_s" not in record["denoiser"]
    assert record["stages"]["vae_decoder"]["dtype"] == "float32"
    wanted = record["request"]
    assert (wanted["size"], wanted["seed"], wanted["sampler"]) == ("112x64", 7, "unipc")
    assert set(record["inputs"]) == {"image", "poses", "intrinsics"}


def test_what_changes_the_video_changes_the_record() -> None:
    record = record_of(request(), origin(), FACTS)
    brighter = replace(request(), image=request().image + np.uint8(1))
    assert record_of(brighter, origin(), FACTS)["inputs"] != record["inputs"]
    slower = replace(request(), sampler=SamplerSettings(num_inference_steps=4))
    assert record_of(slower, origin(), FACTS)["request"] != record["request"]
    assert record_of(request(), origin(), replace(FACTS, dtype="bfloat16")) != record
    assert record_of(request(), origin(), replace(FACTS, load_s=9.0)) == record
    assert record_of(request(), origin(), None)["denoiser"] is None


def test_without_a_manifest_the_edges_of_files_count(tmp_path: Path) -> None:
    weights = tmp_path / "high" / "model.safetensors"
    weights.parent.mkdir()
    content = bytearray(4 * EDGE_BYTES)
    weights.write_bytes(content)
    before = fingerprint(tmp_path)
    assert before.covers == "edges"
    assert fingerprint(tmp_path) == before
    for position, is_seen in ((0, True), (2 * EDGE_BYTES, False), (4 * EDGE_BYTES - 1, True)):
        changed = content.copy()
        changed[position] = 1
        weights.write_bytes(changed)
        assert (fingerprint(tmp_path) != before) == is_seen
    weights.write_bytes(content)
    (tmp_path / "README.md").write_text("not a weight")
    assert fingerprint(tmp_path) == before
    weights.rename(tmp_path / "model.safetensors")
    assert fingerprint(tmp_path) != before


def test_a_manifest_speaks_for_the_content(
    tmp_path: Path, synthetic_checkpoint: CheckpointPaths
) -> None:
    assert fingerprint(synthetic_checkpoint.root).covers == "edges"

    def listed(*files: dict[str, str]) -> Fingerprint:
        (tmp_path / "lingbot-manifest.json").write_text(json.dumps({"files": files}))
        return fingerprint(tmp_path)

    a, b = {"path": "a", "sha256": "1"}, {"path": "b", "sha256": "2"}
    assert listed(a, b).covers == "content"
    assert listed(a, b) == listed(b, a)
    assert listed(a, b) != listed(a, {**b, "sha256": "3"})
