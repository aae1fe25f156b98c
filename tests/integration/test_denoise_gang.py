"""The denoiser on a gang, against what the published code computed."""

import asyncio
from pathlib import Path

import numpy as np
import ray

from cluster.config import GangConfig
from cluster.denoise_program import DenoiserFactory
from cluster.gang import Gang
from model.types import (
    Latents,
    Step,
)
from tests.support.golden import golden_request, golden_results
from tests.support.owners import GangOwner


def test_a_gang_denoises_the_golden_case(ray_cluster: None, golden: Path) -> None:
    config = GangConfig(size=2, sharding="per_expert", threads_per_rank=1, start_timeout_s=120.0)
    factory = DenoiserFactory(str(golden / "checkpoint"), config)

    async def scenario() -> list[object]:
        gang = await Gang.start(config, factory)
        try:
            return [item async for item in gang.run("golden", golden_request(golden))]
        finally:
            await gang.stop()

    *steps, latents = asyncio.run(scenario())
    assert steps == [Step(index, len(steps)) for index in range(1, len(steps) + 1)]
    assert isinstance(latents, Latents)
    expected = golden_results(golden)["latent_steps"][-1].numpy()
    error = np.linalg.norm(latents.values - expected) / np.linalg.norm(expected)
    # That of the denoiser in one process (tests/unit/test_denoiser.py).
    assert error <= 1e-3


def test_the_owner_of_a_denoising_gang_does_without_torch(ray_cluster: None, golden: Path) -> None:
    """Its import takes a second or more of a start, and 200 MB."""
    config = GangConfig(size=1, threads_per_rank=1, start_timeout_s=120.0)
    owner = GangOwner.remote(config, DenoiserFactory(str(golden / "checkpoint"), config))
    try:
        ray.get(owner.start.remote())
        first, *_, latents = map(ray.get, owner.run.remote("golden", golden_request(golden)))
        assert isinstance(first, Step) and isinstance(latents, Latents)
        assert not ray.get(owner.has_imported.remote("torch"))
    finally:
        ray.kill(owner)
