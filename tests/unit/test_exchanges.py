"""When a block's exchanges between ranks are on their way."""

from dataclasses import replace

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh

from model.attention import sdpa
from model.block import EAGER, Block
from model.config import DiTConfig
from model.dit import DiT
from model.parallel.parallelize import release_weights, shard_dit
from model.parallel.sequence import Exchange, NoSequenceParallel
from model.parallel.sharding import Sharding
from tests.support.one_rank import one_rank

CONFIG = DiTConfig(dim=64, ffn_dim=96, num_heads=4, num_layers=3, text_dim=32, text_len=8)
GRID = (2, 4, 4)


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


class Pass:
    """A pass for two prompts, and how many exchanges were on their way at each call.

    Args:
        size: How many ranks the wire pretends to join.
    """

    def __init__(self, size):
        self.seen = {"before": [], "between": [], "attention": []}
        self._wire = Wire(size)
        stages = replace(
            EAGER,
            before_attention=self._noted("before", Block.before_attention),
            between=self._noted("between", Block.between),
        )
        attention = self._noted("attention", sdpa)
        self.dit = DiT(CONFIG, sequence=self._wire, attention=attention, stages=stages)
        self._random = torch.Generator().manual_seed(0)
        for parameter in self.dit.requires_grad_(False).parameters():
            parameter.normal_(std=0.2, generator=self._random)

    def condition(self):
        self._noise = self._draw(16, *GRID)
        camera = self._draw(CONFIG.camera_dim, *GRID)
        self._clip = self.dit.condition_clip(torch.zeros(20, *GRID), camera, kept_blocks=2)
        prompts = [self._draw(3, CONFIG.text_dim) for _ in range(2)]
        self._prompts = [self.dit.condition_prompt(prompt, None) for prompt in prompts]
        return self

    def flows(self):
        for counts in self.seen.values():
            counts.clear()
        flows = self.dit.predict(self._noise, torch.tensor(900), self._clip, self._prompts)
        assert not self._wire.under_way
        return flows

    def _draw(self, *shape):
        return torch.randn(shape, generator=self._random)

    def _noted(self, name, run):
        def note(*arguments):
            self.seen[name].append(len(self._wire.under_way))
            return run(*arguments)

        return note


@pytest.mark.parametrize("size", [1, 2])
def test_no_attention_runs_beside_an_exchange(size):
    """Both fill a GPU: started in another order on each rank, they wait for each other."""
    run = Pass(size).condition()
    run.flows()
    # To itself and to the prompts, in three blocks.
    assert run.seen["attention"] == [0] * (1 + 2 + 2 * 4)


def test_matrix_products_of_one_prompt_run_beside_every_exchange_of_the_other():
    """But of the first block, where no prompt has had any influence yet, and of the last."""
    run = Pass(size=2).condition()
    run.flows()
    assert run.seen["before"] == [0, 0, 1, 1, 1]
    assert run.seen["between"] == [0, 1, 1, 1, 0]


def test_prompts_in_turns_compute_what_they_do_block_by_block():
    turns, together = Pass(size=2).condition(), Pass(size=1).condition()
    assert not torch.equal(*turns.flows())
    for ours, expected in zip(turns.flows(), together.flows(), strict=True):
        assert torch.equal(ours, expected)


@pytest.fixture
def mesh():
    with one_rank():
        yield init_device_mesh("cpu", (1,))


@pytest.mark.parametrize("sharding", [Sharding.PER_EXPERT, Sharding.PER_BLOCK])
def test_a_pass_fetches_weights_that_were_given_back(mesh, sharding):
    run = Pass(size=2)
    shard_dit(run.dit, mesh, sharding)
    run.condition()
    release_weights(run.dit)
    for ours, expected in zip(run.flows(), Pass(size=2).condition().flows(), strict=True):
        assert torch.equal(ours, expected)
    in_turns = [0, 0, 1, 1, 1] if sharding is Sharding.PER_EXPERT else [0, 0, 1, 0, 1]
    assert run.seen["before"] == in_turns  # else each prompt would fetch a block for itself
