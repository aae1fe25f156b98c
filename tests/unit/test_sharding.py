"""Which sharding a gang takes, from the memory of its ranks."""

import pytest
import torch

from model.config import DiTConfig
from model.errors import ConfigurationError
from model.experts import ExpertSettings, build_dit, resolve_sharding
from model.parallel.sharding import Sharding, choose_sharding

GIB = 2**30
EXPERT = 37_088_665_728  # 18.54 B parameters in bf16


@pytest.mark.parametrize(
    ("memory_gib", "ranks", "expected"),
    [
        (138, 1, Sharding.NONE),
        (138, 8, Sharding.NONE),
        (111, 8, Sharding.NONE),  # 0.8 of an H200
        (79, 8, Sharding.PER_EXPERT),
        (79, 4, Sharding.PER_EXPERT),
        (79, 2, Sharding.PER_BLOCK),
        (46, 8, Sharding.PER_BLOCK),
    ],
)
def test_auto_takes_the_fastest_that_fits(memory_gib: int, ranks: int, expected: Sharding) -> None:
    chosen = choose_sharding(
        Sharding.AUTO, expert_bytes=EXPERT, memory_bytes=memory_gib * GIB, world_size=ranks
    )
    assert chosen is expected


@pytest.mark.parametrize(
    ("requested", "memory_gib", "ranks"),
    [(Sharding.NONE, 60, 8), (Sharding.AUTO, 60, 1), (Sharding.AUTO, 15, 4)],
)
def test_what_does_not_fit_is_refused_before_it_is_read(
    requested: Sharding, memory_gib: int, ranks: int
) -> None:
    with pytest.raises(ConfigurationError, match="take a larger gang"):
        choose_sharding(
            requested, expert_bytes=EXPERT, memory_bytes=memory_gib * GIB, world_size=ranks
        )


def test_one_process_alone_has_nobody_to_share_with() -> None:
    settings, cpu = ExpertSettings(sharding=Sharding.PER_BLOCK), torch.device("cpu")
    config = DiTConfig(dim=32, ffn_dim=64, num_heads=2, num_layers=1)
    dit = build_dit(config, settings, device=cpu, dtype=torch.float32, mesh=None)
    with pytest.raises(ConfigurationError, match="alone it must be none or auto"):
        resolve_sharding(dit, settings, device=cpu, mesh=None)
