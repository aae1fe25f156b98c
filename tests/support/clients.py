"""Both clients behind one face, so that every case is tried with each."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lingbot_serve import AsyncClient, Client


class Awaited:
    """An object of the asynchronous client whose methods block, whatever they are."""

    def __init__(self, inner: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._inner = inner
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._blocking(found) if callable(found) else found

    def _blocking(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            result = method(*args, **named)
            if inspect.isasyncgen(result):
                return self._items(result)
            return self._wrapped(self._loop.run_until_complete(result))

        return call

    def _items(self, generator: Any) -> Iterator[Any]:
        try:
            while True:
                yield self._wrapped(self._loop.run_until_complete(anext(generator)))
        except StopAsyncIteration:
            return

    def _wrapped(self, value: Any) -> Any:
        from_us = type(value).__module__ == AsyncClient.__module__
        return Awaited(value, self._loop) if from_us else value


@contextmanager
def client_of(kind: str, url: str, **settings: Any) -> Iterator[Any]:
    """A client of one of the two kinds, "sync" or "async"."""
    if kind == "sync":
        with Client(url, **settings) as client:
            yield client
        return
    loop = asyncio.new_event_loop()
    inner = AsyncClient(url, **settings)
    try:
        yield Awaited(inner, loop)
    finally:
        loop.run_until_complete(inner.close())
        loop.close()
