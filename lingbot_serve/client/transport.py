"""Does what flows ask for, over httpx: the only two places that send or sleep."""

import asyncio
import time
from contextlib import aclosing, closing
from typing import TypeVar

import httpx

from lingbot_serve.client.calls import Calls
from lingbot_serve.client.flows import Action, Flow, Outcome, Pause, Receive
from lingbot_serve.client.requests import Server
from lingbot_serve.client.retries import RetryPolicy

T = TypeVar("T")


class Transport:
    """Connections that block.

    Args:
        server: Whom to talk to.
        timeout_s: Longest silence within one call.
        retries: How long to bear with the server.
    """

    def __init__(self, server: Server, timeout_s: float, retries: RetryPolicy) -> None:
        self._http = httpx.Client(
            base_url=server.base_url,
            headers=dict(server.headers),
            timeout=timeout_s,
            trust_env=server.trust_env,
            follow_redirects=True,
        )
        self.calls = Calls(self._http.build_request, retries)

    def close(self) -> None:
        self._http.close()

    def run(self, flow: Flow[T]) -> T:
        """Takes a flow to its end and returns its result."""
        # Closed at once, for its context managers; a traceback would keep it alive.
        with closing(flow):
            outcome: Outcome = None
            while True:
                try:
                    action = flow.send(outcome)
                except StopIteration as end:
                    result: T = end.value
                    return result
                outcome = self._act(action)

    def _act(self, action: Action) -> Outcome:
        if isinstance(action, Pause):
            time.sleep(action.seconds)
            return None
        try:
            if isinstance(action, Receive):
                return self._receive(action)
            response = self._http.send(action.request, stream=action.stream)
            if response.is_error:
                response.read()
            return response
        except httpx.TransportError as error:
            return error

    def _receive(self, action: Receive) -> httpx.Response:
        with closing(self._http.send(action.request, stream=True)) as response:
            if response.is_error:
                response.read()
                return response
            with closing(action.sink):
                action.sink.begin(response)
                for chunk in response.iter_bytes():
                    action.sink.write(chunk)
        return response


class AsyncTransport:
    """Connections of an event loop; see `Transport`."""

    def __init__(self, server: Server, timeout_s: float, retries: RetryPolicy) -> None:
        self._http = httpx.AsyncClient(
            base_url=server.base_url,
            headers=dict(server.headers),
            timeout=timeout_s,
            trust_env=server.trust_env,
            follow_redirects=True,
        )
        self.calls = Calls(self._http.build_request, retries)

    async def close(self) -> None:
        await self._http.aclose()

    async def run(self, flow: Flow[T]) -> T:
        """Takes a flow to its end and returns its result."""
        with closing(flow):
            outcome: Outcome = None
            while True:
                try:
                    action = flow.send(outcome)
                except StopIteration as end:
                    result: T = end.value
                    return result
                outcome = await self._act(action)

    async def _act(self, action: Action) -> Outcome:
        if isinstance(action, Pause):
            await asyncio.sleep(action.seconds)
            return None
        try:
            if isinstance(action, Receive):
                return await self._receive(action)
            response = await self._http.send(action.request, stream=action.stream)
            if response.is_error:
                await response.aread()
            return response
        except httpx.TransportError as error:
            return error

    async def _receive(self, action: Receive) -> httpx.Response:
        async with aclosing(await self._http.send(action.request, stream=True)) as response:
            if response.is_error:
                await response.aread()
                return response
            with closing(action.sink):
                action.sink.begin(response)
                async for chunk in response.aiter_bytes():
                    # A disk may be slow, and the loop has others to serve.
                    await asyncio.to_thread(action.sink.write, chunk)
        return response
