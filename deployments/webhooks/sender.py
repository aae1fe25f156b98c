"""Sends events in the background, a few at a time, from every gateway."""

import asyncio
import time
from collections import Counter
from contextlib import suppress
from functools import partial

from sqlalchemy.exc import SQLAlchemyError

from cluster.logs import get_logger
from deployments.errors import OutboundFailedError, OutboundRefusedError
from deployments.loops import Loop
from deployments.outbound import OutboundClient
from deployments.webhooks.deliveries import DeliveryQueue, Parcel
from deployments.webhooks.events import signed_headers
from deployments.webhooks.settings import WebhookSettings

logger = get_logger(__name__)

_PRUNE_EVERY_S = 600.0
_GONE = 410


class Sender:
    """A loop that claims events and a task for each that is under way.

    An event is sent at least once: a gateway that dies after its receiver has answered leaves it to
    be sent again, under the same id.

    Args:
        queue: What waits.
        outbound: Reaches the receivers.
        settings: How often it looks, and how many calls go at once.
    """

    def __init__(
        self, queue: DeliveryQueue, outbound: OutboundClient, settings: WebhookSettings
    ) -> None:
        self._queue = queue
        self._outbound = outbound
        self._poll_s = settings.poll_s
        self._max_tasks = settings.outbound.max_concurrent
        self._max_per_endpoint = settings.max_concurrent_per_endpoint
        # What is under way, and for which endpoint.
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._stopped = asyncio.Event()
        self.loop = Loop("webhooks", self._turn)
        self._pruned_s = float("-inf")

    def start(self) -> None:
        """Begins to send."""
        self.loop.start()

    async def stop(self) -> None:
        """Ends what is under way, each within its time limit, and begins nothing more."""
        self._stopped.set()
        await self.loop.finish()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _turn(self) -> None:
        try:
            await self._look()
        except SQLAlchemyError:
            logger.exception("webhooks_unavailable")
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), self._poll_s)

    async def _look(self) -> None:
        while len(self._tasks) < self._max_tasks:
            # One by one: an endpoint may have as many as it may after the next.
            claim = partial(self._queue.claim, 1, passed_over=self._full_endpoints())
            parcels = await asyncio.to_thread(claim)
            if not parcels:
                break
            self._begin(parcels[0])
        if time.monotonic() - self._pruned_s >= _PRUNE_EVERY_S:
            self._pruned_s = time.monotonic()
            await asyncio.to_thread(self._queue.prune)

    def _full_endpoints(self) -> list[str]:
        counts = Counter(self._tasks.values())
        return [endpoint for endpoint, n in counts.items() if n >= self._max_per_endpoint]

    def _begin(self, parcel: Parcel) -> None:
        task = asyncio.create_task(self._send(parcel), name=parcel.event.id)
        self._tasks[task] = parcel.endpoint_id
        task.add_done_callback(self._tasks.pop)

    async def _send(self, parcel: Parcel) -> None:
        body = parcel.event.body()
        headers = signed_headers(parcel.event.id, body, parcel.secrets)
        try:
            reply = await self._outbound.post(parcel.url, content=body, headers=headers)
        except (OutboundRefusedError, OutboundFailedError) as error:
            await self._failed(parcel, None, str(error))
            return
        if 200 <= reply.status < 300:
            await asyncio.to_thread(self._queue.delivered, parcel, reply.status)
            _log(parcel, "delivered", reply.status)
        elif reply.status == _GONE:
            await asyncio.to_thread(self._queue.gone, parcel, reply.status)
            _log(parcel, "gone", reply.status)
        else:
            await self._failed(parcel, reply.status, f"answered {reply.status}")

    async def _failed(self, parcel: Parcel, status: int | None, problem: str) -> None:
        if await asyncio.to_thread(self._queue.failed, parcel, status, problem):
            _log(parcel, "put_off", status)
        else:
            _log(parcel, "given_up", status)


def _log(parcel: Parcel, outcome: str, status: int | None) -> None:
    logger.info(
        "webhook_sent",
        outcome=outcome,
        job_id=parcel.event.video_id,
        endpoint=parcel.endpoint_id,
        delivery=parcel.event.id,
        attempt=parcel.attempt,
        status=status,
    )
