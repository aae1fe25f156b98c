"""Webhook endpoints as OpenAI's client knows them, and a log of what was sent to each."""

from typing import Annotated

from fastapi import FastAPI, Query, Request

from deployments.api.identity import caller_of
from deployments.api.json_body import described, read_json
from deployments.api.webhook_bodies import (
    DeliveryBody,
    DeliveryList,
    EndpointBody,
    EndpointCreate,
    EndpointDeleted,
    EndpointList,
    EndpointTest,
    EndpointTested,
    EndpointUpdate,
    EndpointWithSecret,
    SecretRotate,
)
from deployments.webhooks.service import WebhookService

_ALL = "/v1/webhook_endpoints"
_ONE = _ALL + "/{endpoint_id}"
_Limit = Annotated[int, Query(ge=1, le=100)]


def add_routes(api: FastAPI, service: WebhookService) -> None:
    """Adds `/v1/webhook_endpoints` and what is below it."""
    _add_endpoint_routes(api, service)
    _add_secret_routes(api, service)
    _add_delivery_routes(api, service)


def _add_endpoint_routes(api: FastAPI, service: WebhookService) -> None:
    @api.post(_ALL, openapi_extra=described(EndpointCreate))
    async def create_webhook(request: Request) -> EndpointWithSecret:
        """Registers an address that hears how videos end; tells its secret, this once."""
        body = await read_json(request, EndpointCreate)
        endpoint = await service.create(
            caller_of(request), name=body.name, url=body.url, event_types=body.event_types
        )
        return EndpointWithSecret.of(endpoint)

    @api.get(_ALL)
    async def list_webhooks(
        request: Request, after: str | None = None, limit: _Limit = 20
    ) -> EndpointList:
        """The addresses of this key, newest first."""
        found, has_more = await service.page(caller_of(request), after=after, limit=limit)
        return EndpointList(data=[EndpointBody.of(each) for each in found], has_more=has_more)

    @api.get(_ONE)
    async def get_webhook(endpoint_id: str, request: Request) -> EndpointBody:
        """One address."""
        return EndpointBody.of(await service.get(endpoint_id, caller_of(request)))

    @api.post(_ONE, openapi_extra=described(EndpointUpdate))
    async def update_webhook(endpoint_id: str, request: Request) -> EndpointBody:
        """Changes name, address or event types; one that answered 410 is tried again."""
        changes = (await read_json(request, EndpointUpdate)).model_dump(exclude_none=True)
        return EndpointBody.of(await service.update(endpoint_id, caller_of(request), **changes))

    @api.delete(_ONE)
    async def delete_webhook(endpoint_id: str, request: Request) -> EndpointDeleted:
        """Removes an address with all that was to be sent to it."""
        await service.delete(endpoint_id, caller_of(request))
        return EndpointDeleted(id=endpoint_id)


def _add_secret_routes(api: FastAPI, service: WebhookService) -> None:
    @api.post(_ONE + "/rotate_secret", openapi_extra=described(SecretRotate))
    async def rotate_webhook_secret(endpoint_id: str, request: Request) -> EndpointWithSecret:
        """Makes a new secret; the old one may sign too for a day."""
        keep = (await read_json(request, SecretRotate)).keep_old_secret_active_for_24_hours
        caller = caller_of(request)
        return EndpointWithSecret.of(await service.rotate(endpoint_id, caller, keep_old=keep))

    @api.post(_ONE + "/test", openapi_extra=described(EndpointTest))
    async def test_webhook(endpoint_id: str, request: Request) -> EndpointTested:
        """Sends a made-up event now, once."""
        event_type = (await read_json(request, EndpointTest)).event_type
        status = await service.test(endpoint_id, caller_of(request), event_type)
        return EndpointTested(
            webhook_endpoint_id=endpoint_id, event_type=event_type, status_code=status
        )


def _add_delivery_routes(api: FastAPI, service: WebhookService) -> None:
    @api.get(_ONE + "/deliveries")
    async def list_deliveries(
        endpoint_id: str, request: Request, after: str | None = None, limit: _Limit = 20
    ) -> DeliveryList:
        """What was and will be sent to an address, newest first."""
        found, has_more = await service.deliveries(
            endpoint_id, caller_of(request), after=after, limit=limit
        )
        return DeliveryList(data=[DeliveryBody.of(each) for each in found], has_more=has_more)

    @api.post(_ONE + "/deliveries/{delivery_id}/redeliver")
    async def redeliver(endpoint_id: str, delivery_id: str, request: Request) -> DeliveryBody:
        """Sends an event once more."""
        caller = caller_of(request)
        return DeliveryBody.of(await service.redeliver(endpoint_id, delivery_id, caller))
