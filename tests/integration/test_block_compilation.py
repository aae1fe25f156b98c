"""The experts' blocks compiled by torch."""

import dataclasses

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounter

from model.attention import AttentionBackend, sdpa
from model.block import EAGER, BlockStages
from model.compilation import compiled_stages
from model.config import DiTConfig
from model.denoiser import Denoiser
from model.dit import DiT
from model.experts import Experts
from model.parallel.sequence import (
    NoSequenceParallel,
    SequenceParallel,
    UlyssesSequenceParallel,
)
from model.parallel.sharding import Sharding
from model.types import VideoShape
from model.warm_up import empty_clip, warm_up
from tests.support.one_rank import one_rank

CPU = torch.device("cpu")
CONFIG = DiTConfig(dim=48, ffn_dim=96, num_heads=4, num_layers=2, text_dim=32)
STAGES = 4 + 1  # one of them has two ways: with a camera and without


@pytest.fixture(params=["alone", "ulysses"])
def sequence(request):
    if request.param == "alone":
        yield NoSequenceParallel()
        return
    with one_rank() as group:
        yield UlyssesSequenceParallel(1, 0, group)


def denoiser(sequence: SequenceParallel, stages: BlockStages) -> Denoiser:
    torch.manual_seed(0)
    dits = [DiT(CONFIG, sequence=sequence, attention=sdpa, stages=stages) for _ in range(2)]
    pair = (dit.eval().requires_grad_(False) for dit in dits)
    return Denoiser(Experts(*pair, AttentionBackend.SDPA, Sharding.NONE), CPU, 1 << 20)


def test_after_the_warm_up_no_clip_waits_for_a_compiler(sequence) -> None:
    """Without the code generator, which takes minutes on a CPU."""
    torch.compiler.reset()
    graphs = CompileCounter()
    compiled, plain = denoiser(sequence, compiled_stages(graphs)), denoiser(sequence, EAGER)
    warm_up(compiled, device=CPU, compiled=True)
    assert graphs.frame_count == STAGES
    for shape in (VideoShape(5, 64, 80), VideoShape(33, 48, 96)):
        clip = empty_clip(CONFIG, shape)
        for request in (clip, dataclasses.replace(clip, camera=None)):
            ours, expected = list(compiled.denoise(request)), list(plain.denoise(request))
            assert np.allclose(ours[-1].values, expected[-1].values, atol=1e-5)
    assert graphs.frame_count == STAGES
