"""The queue of events: claimed for a while by one gateway, tried again, kept for the log."""

import random
import time
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Engine, delete, select, update
from sqlalchemy.orm import sessionmaker

from deployments.errors import DeliveryNotFoundError, EndpointDisabledError
from deployments.webhooks.endpoints import find_endpoint
from deployments.webhooks.events import Event
from deployments.webhooks.settings import WebhookSettings
from deployments.webhooks.tables import (
    DELIVERED,
    GIVEN_UP,
    PENDING,
    WebhookDelivery,
    WebhookEndpoint,
)

# Beyond the time that one attempt may take.
_LEASE_MARGIN_S = 30.0
_MAX_ERROR_CHARS = 200


@dataclass(frozen=True, slots=True)
class Parcel:
    """One attempt: what is sent where.

    Args:
        number: The delivery's.
        attempt: Counts its claims; an earlier one may no longer write how it ended.
        endpoint_id: Whom it is for.
        url: Where to.
        secrets: That sign it.
        event: What.
    """

    number: int
    attempt: int
    endpoint_id: str
    url: str
    secrets: tuple[str, ...]
    event: Event


class DeliveryQueue:
    """What waits to be sent; every call is one short transaction and may run in a thread.

    Args:
        engine: From `deployments.jobs.database.open_database`.
        settings: How long, how often, and for how long it is kept.
    """

    def __init__(self, engine: Engine, settings: WebhookSettings) -> None:
        self._session = sessionmaker(engine, expire_on_commit=False)
        self._settings = settings
        self._lease_s = settings.outbound.timeout_s + _LEASE_MARGIN_S

    def claim(self, limit: int, *, passed_over: Collection[str] = ()) -> list[Parcel]:
        """Takes events whose time has come; no other gateway gets them until a lease has run out.

        Args:
            limit: Most of them.
            passed_over: Endpoints that have as many attempts under way as they may.
        """
        now_s = time.time()
        due = (
            WebhookDelivery.status == PENDING,
            WebhookDelivery.next_at <= now_s,
            WebhookDelivery.endpoint_id.not_in(passed_over),
        )
        with self._session() as session:
            if session.scalar(select(WebhookDelivery.number).where(*due).limit(1)) is None:
                return []
        oldest = select(WebhookDelivery.number).where(*due).order_by(WebhookDelivery.next_at)
        chosen = oldest.limit(limit).with_for_update(skip_locked=True).cte("chosen")
        taken = (
            update(WebhookDelivery)
            .where(WebhookDelivery.number.in_(select(chosen.c.number)), *due)
            .values(next_at=now_s + self._lease_s, attempts=WebhookDelivery.attempts + 1)
        )
        with self._session.begin() as session:
            numbers = session.scalars(taken.returning(WebhookDelivery.number)).all()
            rows = session.execute(
                select(WebhookDelivery, WebhookEndpoint)
                .join(WebhookEndpoint, WebhookEndpoint.id == WebhookDelivery.endpoint_id)
                .where(WebhookDelivery.number.in_(numbers))
                .order_by(WebhookDelivery.number)
                .execution_options(populate_existing=True)
            ).all()
            for delivery, _ in rows:
                if delivery.give_up_at is None:
                    delivery.give_up_at = now_s + self._settings.retry_for_s
        return [_parcel(delivery, endpoint, now_s) for delivery, endpoint in rows]

    def delivered(self, parcel: Parcel, status: int) -> None:
        """Notes that the receiver took it."""
        self._end(parcel, status=DELIVERED, last_status=status, last_error=None)

    def gone(self, parcel: Parcel, status: int) -> None:
        """Notes that the receiver wants nothing more; nothing more is sent to it."""
        now_s = time.time()
        with self._session.begin() as session:
            session.execute(
                update(WebhookEndpoint)
                .where(WebhookEndpoint.id == parcel.endpoint_id)
                .values(disabled_at=now_s)
            )
            session.execute(
                update(WebhookDelivery)
                .where(
                    WebhookDelivery.endpoint_id == parcel.endpoint_id,
                    WebhookDelivery.status == PENDING,
                )
                .values(status=GIVEN_UP, ended_at=now_s, last_status=status, last_error="gone")
            )

    def failed(self, parcel: Parcel, status: int | None, problem: str) -> bool:
        """Puts an event off that nobody took, or gives it up.

        Args:
            parcel: The attempt.
            status: What the receiver answered, if it did.
            problem: For the log.

        Returns:
            Whether it will be tried again.
        """
        outcome = {"last_status": status, "last_error": problem[:_MAX_ERROR_CHARS]}
        next_at = time.time() + self._wait_s(parcel.attempt)
        later = (
            update(WebhookDelivery)
            .where(*_mine(parcel), WebhookDelivery.give_up_at >= next_at)
            .values(next_at=next_at, **outcome)
        )
        with self._session.begin() as session:
            if session.scalar(later.returning(WebhookDelivery.number)) is not None:
                return True
        self._end(parcel, status=GIVEN_UP, **outcome)
        return False

    def page(
        self, endpoint_id: str, sees: str | None, *, after: str | None, limit: int
    ) -> tuple[list[WebhookDelivery], bool]:
        """What was and will be sent to an endpoint, newest first, and whether more follows.

        Raises:
            WebhookNotFoundError: There is no such endpoint, or it is somebody else's.
            DeliveryNotFoundError: `after` names none of its deliveries.
        """
        mine = select(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint_id)
        query = mine.order_by(WebhookDelivery.number.desc()).limit(limit + 1)
        with self._session() as session:
            find_endpoint(session, endpoint_id, sees)
            if after is not None:
                last = session.scalar(mine.where(WebhookDelivery.id == after))
                if last is None:
                    raise _not_found(after)
                query = query.where(WebhookDelivery.number < last.number)
            found = list(session.scalars(query))
        return found[:limit], len(found) > limit

    def redeliver(self, endpoint_id: str, delivery_id: str, sees: str | None) -> WebhookDelivery:
        """Sends an event once more, as if it had just come.

        Raises:
            WebhookNotFoundError: There is no such endpoint, or it is somebody else's.
            DeliveryNotFoundError: The endpoint has no such delivery.
            EndpointDisabledError: The endpoint answered 410.
        """
        wanted = select(WebhookDelivery).where(
            WebhookDelivery.endpoint_id == endpoint_id, WebhookDelivery.id == delivery_id
        )
        with self._session.begin() as session:
            endpoint = find_endpoint(session, endpoint_id, sees)
            delivery = session.scalar(wanted)
            if delivery is None:
                raise _not_found(delivery_id)
            if endpoint.disabled_at is not None:
                raise EndpointDisabledError(
                    f"{endpoint_id} answered 410 Gone; update it to have it tried again"
                )
            delivery.status, delivery.next_at = PENDING, time.time()
            delivery.give_up_at = delivery.ended_at = None
        return delivery

    def prune(self) -> int:
        """Removes what ended too long ago to be of interest.

        Returns:
            How many.
        """
        old = WebhookDelivery.ended_at < time.time() - self._settings.keep_s
        with self._session.begin() as session:
            gone = session.scalars(
                delete(WebhookDelivery).where(old).returning(WebhookDelivery.number)
            )
            return len(gone.all())

    def _end(self, parcel: Parcel, **values: object) -> None:
        ended = update(WebhookDelivery).where(*_mine(parcel))
        with self._session.begin() as session:
            session.execute(ended.values(ended_at=time.time(), **values))

    def _wait_s(self, attempt: int) -> float:
        """Four times as long each time, and apart from others that failed at the same moment."""
        settings = self._settings
        wait_s = min(settings.max_retry_s, settings.first_retry_s * 4.0 ** min(attempt - 1, 20))
        return wait_s * random.uniform(0.5, 1.0)


def _mine(parcel: Parcel) -> tuple[ColumnElement[bool], ...]:
    return (
        WebhookDelivery.number == parcel.number,
        WebhookDelivery.attempts == parcel.attempt,
        WebhookDelivery.status == PENDING,
    )


def _parcel(delivery: WebhookDelivery, endpoint: WebhookEndpoint, now_s: float) -> Parcel:
    event = Event(
        delivery.id,
        delivery.event_type,
        delivery.video_id,
        delivery.error_code,
        delivery.created_at,
    )
    secrets = tuple(endpoint.secrets(now_s))
    return Parcel(delivery.number, delivery.attempts, endpoint.id, endpoint.url, secrets, event)


def _not_found(delivery_id: str) -> DeliveryNotFoundError:
    return DeliveryNotFoundError(f"no delivery has the id {delivery_id!r}")
