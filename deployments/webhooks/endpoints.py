"""Endpoints in the jobs' database; nobody sees another owner's."""

import time
from collections.abc import Sequence
from uuid import uuid4

from sqlalchemy import Engine, delete, func, select
from sqlalchemy.orm import Session, sessionmaker

from deployments.errors import WebhookNotFoundError
from deployments.webhooks.events import new_signing_secret
from deployments.webhooks.tables import WebhookDelivery, WebhookEndpoint
from model.errors import InvalidInputError

OLD_SECRET_WORKS_S = 24 * 3600.0


class EndpointStore:
    """The endpoints of a service; every call is one short transaction and may run in a thread.

    Where a call takes `sees`, that is whose endpoints it may see; None means everybody's.

    Args:
        engine: From `deployments.jobs.database.open_database`.
        max_endpoints: That one key may register.
    """

    def __init__(self, engine: Engine, *, max_endpoints: int) -> None:
        self._session = sessionmaker(engine, expire_on_commit=False)
        self._max_endpoints = max_endpoints

    def create(
        self, key_id: str, *, name: str, url: str, event_types: Sequence[str]
    ) -> WebhookEndpoint:
        """Registers an address, with a new secret.

        Raises:
            InvalidInputError: The key has as many as it may have.
        """
        endpoint = WebhookEndpoint(
            id=f"we_{uuid4().hex}",
            key_id=key_id,
            name=name,
            url=url,
            event_types=list(event_types),
            secret=new_signing_secret(),
        )
        mine = select(func.count()).where(WebhookEndpoint.key_id == key_id)
        with self._session.begin() as session:
            if (session.scalar(mine) or 0) >= self._max_endpoints:
                raise InvalidInputError(
                    "url", f"is one too many: there may be {self._max_endpoints}; delete another"
                )
            session.add(endpoint)
        return endpoint

    def get(self, endpoint_id: str, sees: str | None) -> WebhookEndpoint:
        """One endpoint.

        Raises:
            WebhookNotFoundError: There is none of this id, or it is somebody else's.
        """
        with self._session() as session:
            return find_endpoint(session, endpoint_id, sees)

    def page(
        self, sees: str | None, *, after: str | None, limit: int
    ) -> tuple[list[WebhookEndpoint], bool]:
        """Endpoints, newest first, and whether more follow.

        Raises:
            WebhookNotFoundError: `after` names none of them.
        """
        order = (WebhookEndpoint.created_at.desc(), WebhookEndpoint.id.desc())
        query = select(WebhookEndpoint).order_by(*order).limit(limit + 1)
        with self._session() as session:
            if sees is not None:
                query = query.where(WebhookEndpoint.key_id == sees)
            if after is not None:
                last = find_endpoint(session, after, sees)
                query = query.where(
                    (WebhookEndpoint.created_at < last.created_at)
                    | (
                        (WebhookEndpoint.created_at == last.created_at)
                        & (WebhookEndpoint.id < last.id)
                    )
                )
            endpoints = list(session.scalars(query))
        return endpoints[:limit], len(endpoints) > limit

    def update(self, endpoint_id: str, sees: str | None, **changes: object) -> WebhookEndpoint:
        """Changes name, url or event types; one that answered 410 is tried again from now on.

        Raises:
            WebhookNotFoundError: There is none of this id, or it is somebody else's.
        """
        with self._session.begin() as session:
            endpoint = find_endpoint(session, endpoint_id, sees)
            for name, value in changes.items():
                setattr(endpoint, name, value)
            endpoint.disabled_at, endpoint.updated_at = None, time.time()
        return endpoint

    def rotate(self, endpoint_id: str, sees: str | None, *, keep_old: bool) -> WebhookEndpoint:
        """Gives an endpoint a new secret.

        Args:
            endpoint_id: Which.
            sees: Whose it must be.
            keep_old: Whether the one before signs too for a day.

        Raises:
            WebhookNotFoundError: There is none of this id, or it is somebody else's.
        """
        with self._session.begin() as session:
            endpoint = find_endpoint(session, endpoint_id, sees)
            now_s = time.time()
            endpoint.old_secret = endpoint.secret if keep_old else None
            endpoint.old_secret_until = now_s + OLD_SECRET_WORKS_S if keep_old else None
            endpoint.secret, endpoint.updated_at = new_signing_secret(), now_s
        return endpoint

    def delete(self, endpoint_id: str, sees: str | None) -> None:
        """Removes an endpoint with all that was to be sent to it.

        Raises:
            WebhookNotFoundError: There is none of this id, or it is somebody else's.
        """
        with self._session.begin() as session:
            endpoint = find_endpoint(session, endpoint_id, sees)
            session.execute(
                delete(WebhookDelivery).where(WebhookDelivery.endpoint_id == endpoint_id)
            )
            session.delete(endpoint)


def find_endpoint(session: Session, endpoint_id: str, sees: str | None) -> WebhookEndpoint:
    """One endpoint in a transaction.

    Raises:
        WebhookNotFoundError: There is none of this id, or it is somebody else's.
    """
    endpoint = session.get(WebhookEndpoint, endpoint_id)
    if endpoint is None or sees not in (None, endpoint.key_id):
        raise WebhookNotFoundError(f"no webhook endpoint has the id {endpoint_id!r}")
    return endpoint
