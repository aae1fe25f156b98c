"""A TCP relay that can be cut, to take a server away from its clients for a while."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any

_CHUNK_BYTES = 1 << 16


class TcpProxy:
    """Relays connections to a server, from a thread of its own, until it is cut.

    Args:
        host: Of the server behind, and to listen on.
        port: Of the server behind.
        listen_port: To listen on.
    """

    def __init__(self, host: str, port: int, *, listen_port: int) -> None:
        self._host, self._port = host, port
        self.port = listen_port
        self._server: asyncio.Server | None = None
        self._relays: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="tcp proxy", daemon=True).start()
        self.restore()

    def cut(self) -> None:
        """Drops every connection and refuses new ones."""
        self._do(self._cut())

    def restore(self) -> None:
        """Takes connections again."""
        self._do(self._restore())

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    async def _restore(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._relay, self._host, self.port)

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for relay in self._relays:
            relay.cancel()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        relay = asyncio.current_task()
        assert relay is not None
        self._relays.add(relay)
        writers = [writer]
        try:
            to_reader, to_writer = await asyncio.open_connection(self._host, self._port)
            writers.append(to_writer)
            await _first(_copy(reader, to_writer), _copy(to_reader, writer))
        except (OSError, asyncio.CancelledError):
            pass  # cut, or one side is gone: either way both ends are closed now
        finally:
            self._relays.discard(relay)
            for each in writers:
                each.transport.abort()


async def _first(*copies: Coroutine[Any, Any, None]) -> None:
    tasks = [asyncio.ensure_future(copy) for copy in copies]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
