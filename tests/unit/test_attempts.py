"""A later attempt of a job takes over what an earlier one makes on the same gang."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import numpy as np
import pytest

from deployments.attempts import Attempts
from model.types import Latents, Step


class Gang:
    """Counts the clips that it is made to denoise; each waits for a sign before its end."""

    def __init__(self) -> None:
        self.num_begun = 0
        self.may_end = asyncio.Event()

    async def run(self, *, fails: bool = False) -> AsyncGenerator[Step | Latents, None]:
        self.num_begun += 1
        yield Step(1, 2)
        await self.may_end.wait()
        if fails:
            raise RuntimeError("the ranks were lost")
        yield Step(2, 2)
        yield latents(self.num_begun)


def latents(value: float) -> Latents:
    return Latents(np.full((16, 1, 2, 2), value, np.float32))


async def collect(items: AsyncGenerator[Step | Latents, None]) -> list[Step | Latents]:
    return [item async for item in items]


def last_value(items: list[Step | Latents]) -> float:
    assert isinstance(items[-1], Latents)
    return float(items[-1].values.flat[0])


def test_a_later_attempt_gets_the_clip_of_the_earlier() -> None:
    async def scenario() -> None:
        gang, attempts = Gang(), Attempts()
        orphan = asyncio.create_task(collect(attempts.once("job", gang.run())))
        await asyncio.sleep(0)
        later = asyncio.create_task(collect(attempts.once("job", gang.run())))
        await asyncio.sleep(0.01)
        gang.may_end.set()
        assert last_value(await orphan) == last_value(await later) == 1
        assert (await later)[0] == Step(1, 2)
        assert last_value(await collect(attempts.once("job", gang.run()))) == 1
        assert gang.num_begun == 1

    asyncio.run(scenario())


def test_an_earlier_attempt_that_fails_is_made_again() -> None:
    async def scenario() -> None:
        gang, attempts = Gang(), Attempts()
        orphan = asyncio.create_task(collect(attempts.once("job", gang.run(fails=True))))
        await asyncio.sleep(0)
        later = asyncio.create_task(collect(attempts.once("job", gang.run())))
        await asyncio.sleep(0.01)
        gang.may_end.set()
        assert last_value(await later) == 2
        with pytest.raises(RuntimeError):
            await orphan

    asyncio.run(scenario())


def test_a_closed_attempt_is_made_again() -> None:
    async def scenario() -> None:
        gang, attempts = Gang(), Attempts()
        gang.may_end.set()
        async with aclosing(attempts.once("job", gang.run())) as items:
            await anext(items)
        assert last_value(await collect(attempts.once("job", gang.run()))) == 2

    asyncio.run(scenario())


def test_only_the_last_clips_are_kept() -> None:
    async def scenario() -> None:
        gang, attempts = Gang(), Attempts()
        gang.may_end.set()
        for name in ("a", "b", "c"):
            await collect(attempts.once(name, gang.run()))
        assert last_value(await collect(attempts.once("c", gang.run()))) == 3
        assert last_value(await collect(attempts.once("a", gang.run()))) == 4

    asyncio.run(scenario())
