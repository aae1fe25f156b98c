"""When a block's exchanges between ranks are on their way."""

from dataclasses import replace

import pytest
import torch

from model.attention import sdpa
from model.block import EAGER, Block
from model.config import DiTConfig
from model.dit import DiT
from model.parallel.sequence import Exchange, NoSequenceParallel

CONFIG = DiTConfig(dim=64, ffn_dim=96, num_heads=4, num_layers=3, text_dim=32, text_len=8)


class Wire(NoSequenceParallel):
    """A rank that takes its own tokens for everyone's, and knows what it has not yet waited for."""

    def __init__(self, size):
        self.size = size
        self.under_way = set()

    def scatter_heads(self, packed):
        return self._exchange(packed)

    def gather_heads(self, out_BLnH):
        return self._exchange((out_BLnH,))

    def _exchange(self, tensors):
        exchange = Sent(self.under_way)
        self.under_way.add(exchange)
        return Exchange(tensors, work=exchange)


class Sent:
    """One exchange until it is waited for."""

    def __init__(self, under_way):
        self._under_way = under_way

    def wait(self):
        self._under_way.remove(self)


def predict(size):
    """A pass for two prompts: the flows, and how many exchanges were on their way at each call."""
    wire = Wire(size)
    seen = {"before": [], "between": [], "attention": []}

    def noted(name, run):
        def note(*arguments):
            seen[name].append(len(wire.under_way))
            return run(*arguments)

        return note

    stages = replace(
        EAGER,
        before_attention=noted("before", Block.before_attention),
        between=noted("between", Block.between),
    )
    dit = DiT(CONFIG, sequence=wire, attention=noted("attention", sdpa), stages=stages)
    grid = (2, 4, 4)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in dit.parameters():
            parameter.normal_(std=0.2, generator=random)
        camera = torch.randn(CONFIG.camera_dim, *grid, generator=random)
        clip = dit.condition_clip(torch.zeros(20, *grid), camera, kept_blocks=2)
        prompts = [
            dit.condition_prompt(torch.randn(3, CONFIG.text_dim, generator=random), None)
            for _ in range(2)
        ]
        noise = torch.randn(16, *grid, generator=random)
        seen["attention"].clear()
        flows = dit.predict(noise, torch.tensor(900), clip, prompts)
    assert not wire.under_way
    return flows, seen


@pytest.mark.parametrize("size", [1, 2])
def test_no_attention_runs_beside_an_exchange(size):
    """Both fill a GPU: started in another order on each rank, they wait for each other."""
    seen = predict(size)[1]
    assert seen["attention"] == [0] * (1 + 2 + 2 * 4)  # to itself and to the prompts, three blocks


def test_matrix_products_of_one_prompt_run_beside_every_exchange_of_the_other():
    """But in the first block, where no prompt has had any influence yet, and at the end."""
    seen = predict(size=2)[1]
    assert seen["before"] == [0, 0, 1, 1, 1]
    assert seen["between"] == [0, 1, 1, 1, 0]


def test_prompts_in_turns_compute_what_they_do_block_by_block():
    for turns, together in zip(predict(size=2)[0], predict(size=1)[0], strict=True):
        assert torch.equal(turns, together)
