"""Gangs of every size against one process: the same forward, whatever is split and sharded."""

import numpy as np
import pytest
import torch

from model.checkpoint.layout import locate_checkpoint
from model.denoiser import Denoiser
from model.types import (
    CameraPath,
    DenoiseRequest,
    FirstFrame,
    SamplerSettings,
    TextEmbeds,
    VideoShape,
)
from tests.support.forward_ranks import KINDS, flows, run_everywhere


@pytest.fixture(scope="module")
def request_(golden):
    shape = VideoShape(num_frames=17, height=80, width=160)  # 250 tokens: 4 does not divide them
    generator = np.random.default_rng(0)
    return DenoiseRequest(
        prompt=TextEmbeds(generator.normal(size=(9, 64)).astype(np.float32)),
        negative_prompt=TextEmbeds(generator.normal(size=(5, 64)).astype(np.float32)),
        first_frame=FirstFrame(generator.normal(size=(16, 5, 10, 20)).astype(np.float32)),
        image=None,
        camera=CameraPath(
            np.load(golden / "case/poses.npy"), np.load(golden / "case/intrinsics.npy")
        ),
        shape=shape,
        sampler=SamplerSettings(num_inference_steps=6),
        seed=0,
    )


@pytest.fixture(scope="module")
def alone(golden, request_):
    checkpoint = locate_checkpoint(golden / "checkpoint")
    cpu = torch.device("cpu")
    return flows(Denoiser.load(checkpoint, device=cpu, dtype=torch.float32), request_)


@pytest.fixture(scope="module")
def results(golden, request_, tmp_path_factory):
    out = tmp_path_factory.mktemp("ranks")
    run_everywhere(golden / "checkpoint", request_, out)
    return out


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.label)
def test_every_rank_of_a_gang_agrees_with_one_process(results, alone, kind):
    for rank in range(kind.world_size):
        flow = torch.load(results / f"flow-{kind.label}-{rank}.pt")
        for ours, expected in zip(flow, alone, strict=True):
            assert (ours - expected).norm() / expected.norm() <= 1e-5
