"""A clip costs what the model costs: nothing that stays the same is computed twice."""

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from model.config import DiTConfig
from model.dit import DiT
from model.parallel.sequence import NoSequenceParallel

CONFIG = DiTConfig(dim=64, ffn_dim=160, num_heads=4, num_layers=3, text_dim=32, text_len=24)
FRAMES, HEIGHT, WIDTH = 3, 8, 12
TOKENS = FRAMES * (HEIGHT // 2) * (WIDTH // 2)
DIM, LAYERS = CONFIG.dim, CONFIG.num_layers


def linear(rows: int, inputs: int, outputs: int) -> int:
    return 2 * rows * inputs * outputs


def camera_of_a_block() -> int:
    return 4 * linear(TOKENS, DIM, DIM)


def before_the_prompt() -> int:
    """Of a block: q, k, v, o and the attention of all tokens to each other."""
    return 4 * linear(TOKENS, DIM, DIM) + 4 * TOKENS**2 * DIM + linear(TOKENS, DIM, DIM)


def after_the_prompt() -> int:
    """Of a block: cross-attention but its query, and the feed-forward."""
    cross = linear(TOKENS, DIM, DIM) + 4 * TOKENS * CONFIG.text_len * DIM
    return cross + 2 * linear(TOKENS, DIM, CONFIG.ffn_dim)


def ends() -> int:
    """Of a pass: patches, time on one row, head."""
    time = linear(1, CONFIG.freq_dim, DIM) + linear(1, DIM, DIM) + linear(1, DIM, 6 * DIM)
    return linear(TOKENS, CONFIG.in_dim * 4, DIM) + time


def head() -> int:
    return linear(TOKENS, DIM, CONFIG.out_dim * 4)


def camera_embedding() -> int:
    return linear(TOKENS, CONFIG.camera_dim * 4, DIM) + 2 * linear(TOKENS, DIM, DIM)


def prompt() -> int:
    rows = CONFIG.text_len
    embedding = linear(rows, CONFIG.text_dim, DIM) + linear(rows, DIM, DIM)
    return embedding + LAYERS * 2 * linear(rows, DIM, DIM)


def counted_attention(q_BLNH: Tensor, k_BSNH: Tensor, v_BSNH: Tensor) -> Tensor:
    """Softmax attention in products that the counter knows; PyTorch's for CPUs it does not."""
    scores = torch.einsum("blnh,bsnh->bnls", q_BLNH, k_BSNH).div(CONFIG.head_dim**0.5)
    return torch.einsum("bnls,bsnh->blnh", scores.softmax(-1), v_BSNH)


@pytest.fixture(scope="module")
def dit() -> DiT:
    return DiT(CONFIG, sequence=NoSequenceParallel(), attention=counted_attention)


@pytest.mark.parametrize("kept_blocks", [3, 1, 0])
@torch.no_grad()
def test_guided_steps_cost_no_more_than_the_formula(dit: DiT, kept_blocks: int) -> None:
    steps = 2
    latent = torch.randn(16, FRAMES, HEIGHT, WIDTH)
    with FlopCounterMode(display=False) as counter:
        camera = torch.randn(384, FRAMES, HEIGHT, WIDTH)
        y = torch.randn(20, FRAMES, HEIGHT, WIDTH)
        clip = dit.condition_clip(y, camera, kept_blocks=kept_blocks)
        prompts = [dit.condition_prompt(torch.randn(7, 32), None) for _ in range(2)]
        for _ in range(steps):
            dit.predict(latent, torch.tensor(500), clip, prompts)
    once = camera_embedding() + kept_blocks * camera_of_a_block() + 2 * prompt()
    # The branches of a step share the camera, and the first block until the prompt comes in.
    per_step = (
        ends()
        + (LAYERS - kept_blocks) * camera_of_a_block()
        + (2 * LAYERS - 1) * before_the_prompt()
        + 2 * LAYERS * after_the_prompt()
        + 2 * head()
    )
    assert counter.get_total_flops() == once + steps * per_step


@torch.no_grad()
def test_one_forward_is_the_published_formula(dit: DiT) -> None:
    """Per token and block 4 d^2, 2 d^2 for the cross-attention, 2 d f, and 4 d^2 for the camera."""
    latent = torch.randn(16, FRAMES, HEIGHT, WIDTH)
    y, camera = torch.randn(20, *latent.shape[1:]), torch.randn(384, *latent.shape[1:])
    clip = dit.condition_clip(y, camera, kept_blocks=0)
    text = dit.condition_prompt(torch.randn(7, 32), None)
    with FlopCounterMode(display=False) as counter:
        dit(latent, torch.tensor(500), clip, text)
    per_token = 4 * DIM**2 + 2 * DIM**2 + 2 * DIM * CONFIG.ffn_dim + 4 * DIM**2
    attention = 4 * TOKENS**2 * DIM + 4 * TOKENS * CONFIG.text_len * DIM
    blocks = LAYERS * (2 * TOKENS * per_token + attention)
    assert counter.get_total_flops() == blocks + ends() + head()
