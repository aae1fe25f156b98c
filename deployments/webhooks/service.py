"""Webhooks without HTTP: endpoints in, events out."""

import asyncio
import time
from collections.abc import Sequence
from uuid import uuid4

from sqlalchemy import Engine

from deployments.api.identity import Caller
from deployments.errors import OutboundFailedError, OutboundRefusedError
from deployments.outbound import OutboundClient
from deployments.webhooks.deliveries import DeliveryQueue
from deployments.webhooks.endpoints import EndpointStore
from deployments.webhooks.events import Event, signed_headers
from deployments.webhooks.sender import Sender
from deployments.webhooks.settings import WebhookSettings
from deployments.webhooks.tables import VIDEO_FAILED, WebhookDelivery, WebhookEndpoint
from model.errors import InvalidInputError


class WebhookService:
    """What callers may do with their endpoints, and the sender behind them.

    Another owner's endpoint does not exist for a caller: `WebhookNotFoundError`.

    Args:
        engine: From `deployments.jobs.database.open_database`.
        settings: Of the section `webhooks`.
    """

    def __init__(self, engine: Engine, settings: WebhookSettings) -> None:
        self._endpoints = EndpointStore(engine, max_endpoints=settings.max_endpoints)
        self._queue = DeliveryQueue(engine, settings)
        self._outbound = OutboundClient(settings.outbound)
        # Of its own: those who try their endpoints out keep no event waiting.
        self._trials = OutboundClient(settings.outbound)
        self._sender = Sender(self._queue, self._outbound, settings)

    def start(self) -> None:
        """Begins to send events, those of earlier gateways first."""
        self._sender.start()

    def check_health(self) -> None:
        """Raises if nothing is sent any more.

        Raises:
            LoopEndedError: The loop has ended by itself.
        """
        self._sender.loop.check()

    async def stop(self) -> None:
        """Sends nothing more; what waits is sent by other gateways, or after the next start."""
        await self._sender.stop()

    async def create(
        self, caller: Caller, *, name: str, url: str, event_types: Sequence[str]
    ) -> WebhookEndpoint:
        """Registers an address for the ends of the caller's jobs.

        Raises:
            InvalidInputError: The address may not be called, or is one too many.
        """
        await self._check(url)
        return await asyncio.to_thread(
            self._endpoints.create, caller.key_id, name=name, url=url, event_types=event_types
        )

    async def get(self, endpoint_id: str, caller: Caller) -> WebhookEndpoint:
        """One endpoint."""
        return await asyncio.to_thread(self._endpoints.get, endpoint_id, caller.sees)

    async def page(
        self, caller: Caller, *, after: str | None, limit: int
    ) -> tuple[list[WebhookEndpoint], bool]:
        """Endpoints, newest first, and whether more follow."""
        return await asyncio.to_thread(self._endpoints.page, caller.sees, after=after, limit=limit)

    async def update(self, endpoint_id: str, caller: Caller, **changes: object) -> WebhookEndpoint:
        """Changes name, url or event types.

        Raises:
            InvalidInputError: The address may not be called.
        """
        if "url" in changes:
            await self._check(str(changes["url"]))
        return await asyncio.to_thread(self._endpoints.update, endpoint_id, caller.sees, **changes)

    async def rotate(self, endpoint_id: str, caller: Caller, *, keep_old: bool) -> WebhookEndpoint:
        """Gives an endpoint a new secret; the old one may sign too for a day."""
        return await asyncio.to_thread(
            self._endpoints.rotate, endpoint_id, caller.sees, keep_old=keep_old
        )

    async def delete(self, endpoint_id: str, caller: Caller) -> None:
        """Removes an endpoint with all that was to be sent to it."""
        await asyncio.to_thread(self._endpoints.delete, endpoint_id, caller.sees)

    async def test(self, endpoint_id: str, caller: Caller, event_type: str) -> int:
        """Sends a made-up event now, once, and leaves no trace of it.

        Returns:
            The HTTP status that the receiver answered.

        Raises:
            InvalidInputError: Nobody answered, or the address may not be called.
        """
        endpoint = await self.get(endpoint_id, caller)
        now_s = time.time()
        error_code = "cancelled" if event_type == VIDEO_FAILED else None
        event = Event(f"evt_test_{uuid4().hex}", event_type, "video_test", error_code, now_s)
        body = event.body()
        headers = signed_headers(event.id, body, endpoint.secrets(now_s))
        try:
            reply = await self._trials.post(endpoint.url, content=body, headers=headers)
        except (OutboundRefusedError, OutboundFailedError) as error:
            raise InvalidInputError("url", str(error)) from error
        return reply.status

    async def deliveries(
        self, endpoint_id: str, caller: Caller, *, after: str | None, limit: int
    ) -> tuple[list[WebhookDelivery], bool]:
        """What was and will be sent to an endpoint, newest first, and whether more follows."""
        return await asyncio.to_thread(
            self._queue.page, endpoint_id, caller.sees, after=after, limit=limit
        )

    async def redeliver(
        self, endpoint_id: str, delivery_id: str, caller: Caller
    ) -> WebhookDelivery:
        """Sends an event once more."""
        return await asyncio.to_thread(self._queue.redeliver, endpoint_id, delivery_id, caller.sees)

    async def _check(self, url: str) -> None:
        try:
            await self._outbound.check(url)
        except (OutboundRefusedError, OutboundFailedError) as error:
            raise InvalidInputError("url", str(error)) from error
