"""A later attempt of a job takes over what an earlier one still makes."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import numpy as np
import pytest

from deployments.attempts import Attempts
from model.errors import DenoiseCancelled
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


def first(attempts: Attempts, gang: Gang, **how: bool) -> AsyncGenerator[Step | Latents, None]:
    return attempts.once("job", gang.run(**how), attempt=1)


def second(attempts: Attempts, gang: Gang) -> AsyncGenerator[Step | Latents, None]:
    return attempts.once("job", gang.run(), attempt=2)


def test_a_later_attempt_gets_the_clip_of_the_earlier() -> None:
    async def scenario() -> None:
        gang, attempts = Gang(), Attempts(settle_s=0.0)
        orphan = asyncio.create_task(collect(first(attempts, gang)))
        await asyncio.sleep(0.01)
        later = asyncio.create_task(collect(second(attempts, gang)))
        await asyncio.sleep(0.01)
        gang.may_end.set()
        assert last_value(await orphan) == last_value(await later) == 1
        assert (await later)[0] == Step(1, 2)
        assert last_value(await collect(second(attempts, gang))) == 1
        assert gang.num_begun == 1

    asyncio.run(scenario())


def test_an_earlier_attempt_that_fails_is_made_again() -> None:
    async def scenario() -> None:
        gang, attempts = Gang(), Attempts(settle_s=0.0)
        orphan = asyncio.create_task(collect(first(attempts, gang, fails=True)))
        await asyncio.sleep(0.01)
        later = asyncio.create_task(collect(second(attempts, gang)))
        await asyncio.sleep(0.01)
        gang.may_end.set()
        assert last_value(await later) == 2
        with pytest.raises(RuntimeError):
            await orphan

    asyncio.run(scenario())


def test_a_closed_attempt_is_made_again() -> None:
    async def scenario() -> None:
        gang, attempts = Gang(), Attempts(settle_s=0.0)
        gang.may_end.set()
        async with aclosing(first(attempts, gang)) as items:
            await anext(items)
        assert last_value(await collect(second(attempts, gang))) == 2

    asyncio.run(scenario())


def test_an_attempt_that_nobody_reads_can_be_ended() -> None:
    async def scenario() -> None:
        gang, attempts = Gang(), Attempts(settle_s=0.0)
        orphan = asyncio.create_task(collect(first(attempts, gang)))
        await asyncio.sleep(0.01)
        attempts.end("job")
        with pytest.raises(DenoiseCancelled):
            await asyncio.wait_for(orphan, 1)
        with pytest.raises(DenoiseCancelled):
            await collect(second(attempts, gang))
        assert gang.num_begun == 1

    asyncio.run(scenario())


def test_a_follower_that_leaves_ends_what_it_followed() -> None:
    async def scenario() -> None:
        gang, attempts = Gang(), Attempts(settle_s=0.0)
        orphan = asyncio.create_task(collect(first(attempts, gang)))
        await asyncio.sleep(0.01)
        later = asyncio.create_task(collect(second(attempts, gang)))
        await asyncio.sleep(0.01)
        later.cancel()
        with pytest.raises(DenoiseCancelled):
            await asyncio.wait_for(orphan, 1)

    asyncio.run(scenario())


def test_a_later_attempt_follows_a_clip_of_which_a_gang_tells() -> None:
    async def scenario() -> None:
        gang, attempts = Gang(), Attempts(settle_s=0.2)
        later = asyncio.create_task(collect(second(attempts, gang)))
        await asyncio.sleep(0.05)  # the gang tells late, but in time
        assert attempts.hear("job", Step(7, 9))
        await asyncio.sleep(0.4)
        assert attempts.hear("job", latents(5))
        assert await asyncio.wait_for(later, 1) == [Step(7, 9), (await later)[-1]]
        assert last_value(await later) == 5
        assert gang.num_begun == 0

    asyncio.run(scenario())


def test_a_gang_is_told_to_end_what_nobody_wants() -> None:
    async def scenario() -> None:
        gang, attempts = Gang(), Attempts(settle_s=0.0)
        assert attempts.hear("deleted", Step(1, 9))
        attempts.end("deleted")
        assert not attempts.hear("deleted", Step(2, 9))
        attempts.end("deleted before")
        assert not attempts.hear("deleted before", Step(1, 9))
        begun_again = asyncio.create_task(collect(second(attempts, gang)))
        await asyncio.sleep(0.01)
        assert not attempts.hear("job", Step(1, 9))
        gang.may_end.set()
        assert last_value(await begun_again) == 1

    asyncio.run(scenario())


def test_only_the_last_clips_are_kept() -> None:
    async def scenario() -> None:
        gang, attempts = Gang(), Attempts(settle_s=0.0)
        gang.may_end.set()
        for name in "abcde":
            await collect(attempts.once(name, gang.run(), attempt=1))
        assert last_value(await collect(attempts.once("e", gang.run(), attempt=2))) == 5
        assert last_value(await collect(attempts.once("a", gang.run(), attempt=2))) == 6

    asyncio.run(scenario())
