"""What a gang does with the clips of a pipeline that died."""

import asyncio
from collections.abc import AsyncGenerator

import numpy as np

from deployments.ids import JobIds
from deployments.orphans import Orphans
from model.types import Latents, Step

LATENTS = Latents(np.zeros((16, 1, 2, 2), np.float32))


class World:
    """A pipeline that may die, and the next one, which wants clips or does not."""

    def __init__(self) -> None:
        self.living = {"old"}
        self.wants = True
        self.told: list[tuple[str, Step | Latents | None]] = []
        self.cancelled: list[str] = []
        self.orphans = Orphans(self.lives, self.tell, self.cancelled.append)
        self.may_end = asyncio.Event()

    async def lives(self, name: str) -> bool:
        return name in self.living

    async def tell(self, job_id: str, newest: Step | Latents | None) -> bool:
        self.told.append((job_id, newest))
        return self.wants

    async def run(self) -> AsyncGenerator[Step | Latents, None]:
        yield Step(1, 2)
        await self.may_end.wait()
        yield LATENTS

    def begin(self, job_id: str, caller: str = "old") -> asyncio.Task[None]:
        async def read() -> None:
            async for _ in self.orphans.hold(JobIds(job_id, attempt=2), caller, self.run()):
                pass

        return asyncio.create_task(read())


def test_a_clip_is_told_of_once_its_pipeline_is_dead() -> None:
    async def scenario() -> None:
        world = World()
        clip = world.begin("a")
        await asyncio.sleep(0)
        await world.orphans.look()
        assert world.told == []
        world.living.clear()
        await world.orphans.look()
        assert world.told == [("a", Step(1, 2))]
        world.may_end.set()
        await clip
        await world.orphans.look()
        await world.orphans.look()  # handed over once
        assert world.told[1:] == [("a", LATENTS)]
        assert world.cancelled == []

    asyncio.run(scenario())


def test_what_nobody_wants_is_ended_by_the_name_of_its_attempt() -> None:
    async def scenario() -> None:
        world = World()
        clip = world.begin("a")
        await asyncio.sleep(0)
        world.living.clear()
        world.wants = False
        await world.orphans.look()
        assert world.cancelled == ["a-2"]
        clip.cancel()

    asyncio.run(scenario())


def test_a_clip_whose_sender_is_unknown_is_left_alone() -> None:
    async def scenario() -> None:
        world = World()
        world.living.clear()
        clip = world.begin("a", caller="")
        await asyncio.sleep(0)
        await world.orphans.look()
        assert world.told == []
        clip.cancel()

    asyncio.run(scenario())
