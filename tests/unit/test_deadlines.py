"""Bounds on what stages answer."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from deployments.deadlines import paced, within
from deployments.errors import StageTimeoutError


async def ticks(closed: list[str], *, hangs_at: int) -> AsyncGenerator[int, None]:
    try:
        for number in range(5):
            if number == hangs_at:
                await asyncio.Event().wait()
            yield number
    finally:
        closed.append("closed")


def test_an_answer_that_never_comes_is_given_up_by_name() -> None:
    async def ask() -> None:
        with pytest.raises(StageTimeoutError, match=r"vae_encoder did not answer within 0.01 s"):
            await within(asyncio.Event().wait(), 0.01, "vae_encoder")
        assert await within(asyncio.sleep(0, "here"), 5.0, "vae_encoder") == "here"

    asyncio.run(ask())


def test_a_stream_that_stops_is_given_up_and_closed() -> None:
    async def read() -> tuple[list[int], list[str]]:
        seen: list[int] = []
        closed: list[str] = []
        with pytest.raises(StageTimeoutError):
            async for number in paced(ticks(closed, hangs_at=2), lambda _: 0.01, "denoiser"):
                seen.append(number)
        return seen, closed

    assert asyncio.run(read()) == ([0, 1], ["closed"])


def test_the_time_that_is_left_depends_on_what_came() -> None:
    asked: list[int] = []

    def patience(num_items: int) -> float:
        asked.append(num_items)
        return 5.0

    async def read() -> list[int]:
        return [number async for number in paced(ticks([], hangs_at=9), patience, "denoiser")]

    assert asyncio.run(read()) == [0, 1, 2, 3, 4]
    assert asked == [0, 1, 2, 3, 4, 5]


def test_a_reader_that_is_cancelled_closes_the_stream() -> None:
    closed: list[str] = []

    async def read() -> None:
        async for _ in paced(ticks(closed, hangs_at=1), lambda _: 60.0, "denoiser"):
            pass

    async def cancel() -> None:
        reader = asyncio.create_task(read())
        await asyncio.sleep(0.01)
        reader.cancel()
        await asyncio.wait({reader})
        assert reader.cancelled()

    asyncio.run(cancel())
    assert closed == ["closed"]
