"""When a block's exchanges between ranks are on their way."""

from dataclasses import replace

import pytest
import torch

from model.attention import sdpa
from model.block import EAGER, Block
from model.config import DiTConfig
from model.dit import DiT
from model.parallel.sequence import Exchange, NoSequenceParallel

CONFIG = DiTConfig(dim=64, ffn_dim=96, num_heads=4, num_layers=2, text_dim=32, text_len=8)


class Wire(NoSequenceParallel):
    """One rank that sends to itself, and knows what it has not yet waited for."""

    def __init__(self):
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


@pytest.fixture
def seen():
    """A pass for two prompts: by what runs, how many exchanges are on their way each time."""
    wire = Wire()
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
    with torch.no_grad():
        clip = dit.condition_clip(torch.zeros(20, *grid), None, kept_blocks=0)
        prompt = dit.condition_prompt(torch.zeros(1, CONFIG.text_dim), None)
        dit.predict(torch.zeros(16, *grid), torch.tensor(900), clip, (prompt, prompt))
    assert not wire.under_way
    return seen


def test_no_attention_runs_beside_an_exchange(seen):
    """Both fill a GPU: started in another order on each rank, they wait for each other."""
    assert seen["attention"] == [0] * (1 + 2 + 2 + 2)  # to itself and to the prompts, two blocks


def test_matrix_products_of_one_prompt_run_beside_the_exchange_of_the_other(seen):
    """In the first block no prompt has had any influence yet: there is one exchange each way."""
    assert seen["before"] == [0, 0, 1]
    assert seen["between"] == [0, 1, 0]
