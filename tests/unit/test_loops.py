"""Loops that no error ends."""

import asyncio

import pytest

from deployments.errors import LoopEndedError
from deployments.loops import Loop


def test_an_unexpected_error_costs_a_turn() -> None:
    turns: list[int] = []

    async def turn() -> None:
        turns.append(len(turns))
        if len(turns) == 1:
            raise KeyError("nobody thought of this")
        await asyncio.sleep(0.01)

    async def scenario() -> None:
        loop = Loop("turns", turn, max_backoff_s=0.01)
        loop.start()
        await asyncio.sleep(0.2)
        loop.check()
        await loop.stop()
        loop.check()

    asyncio.run(scenario())
    assert len(turns) > 2


def test_a_loop_that_has_ended_is_noticed() -> None:
    async def turn() -> None:
        raise asyncio.CancelledError  # as of a call that somebody else cancelled

    async def scenario() -> None:
        loop = Loop("turns", turn)
        loop.start()
        await asyncio.sleep(0.05)
        with pytest.raises(LoopEndedError, match="turns"):
            loop.check()

    asyncio.run(scenario())


def test_a_loop_finishes_its_turn() -> None:
    done: list[str] = []

    async def turn() -> None:
        await asyncio.sleep(0.05)
        done.append("turn")

    async def scenario() -> None:
        loop = Loop("turns", turn)
        loop.start()
        await asyncio.sleep(0.01)
        await loop.finish()

    asyncio.run(scenario())
    assert done == ["turn"]
