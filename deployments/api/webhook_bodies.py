"""Bodies of `/v1/webhook_endpoints`: OpenAI's, then what this server adds."""

from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field

from deployments.webhooks.tables import WebhookDelivery, WebhookEndpoint

EventType = Literal["video.completed", "video.failed"]
_Name = Annotated[str, Field(min_length=1, max_length=200)]
_Url = Annotated[str, Field(min_length=1, max_length=2048)]
_EventTypes = Annotated[list[EventType], Field(min_length=1, max_length=2)]

_Status = Literal["pending", "delivered", "failed"]

_HINT_CHARS = 4


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EndpointCreate(_Request):
    """Registers an address."""

    name: _Name
    url: _Url
    event_types: _EventTypes


class EndpointUpdate(_Request):
    """What is left out stays as it is."""

    name: _Name | None = None
    url: _Url | None = None
    event_types: _EventTypes | None = None


class SecretRotate(_Request):
    """Makes a new secret."""

    keep_old_secret_active_for_24_hours: bool = False


class EndpointTest(_Request):
    """Sends a made-up event."""

    event_type: EventType


class EndpointBody(BaseModel):
    """OpenAI's webhook endpoint, and whether anything is sent to it."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    name: str
    url: str
    event_types: list[str]
    created_at: int
    updated_at: int
    signing_secret_hint: str
    disabled_at: int | None
    """Since it answered 410 Gone; an update lifts it."""

    @classmethod
    def of(cls, endpoint: WebhookEndpoint) -> "EndpointBody":
        """The body of a row."""
        return cls(**_fields(endpoint))


class EndpointWithSecret(EndpointBody):
    """The same, this once with its secret."""

    signing_secret: str

    @classmethod
    def of(cls, endpoint: WebhookEndpoint) -> "EndpointWithSecret":
        """The body of a row."""
        return cls(**_fields(endpoint), signing_secret=endpoint.secret)


class EndpointList(BaseModel):
    """One page."""

    object: Literal["list"] = "list"
    data: list[EndpointBody]
    has_more: bool


class EndpointDeleted(BaseModel):
    """An endpoint that is gone."""

    id: str
    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"
    deleted: Literal[True] = True


class EndpointTested(BaseModel):
    """What a receiver answered to a made-up event."""

    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    webhook_endpoint_id: str
    event_type: EventType
    status_code: int
    success: Literal[True] = True


class DeliveryBody(BaseModel):
    """One event for one endpoint."""

    id: str
    """Of the event: the receiver's `webhook-id`."""
    object: Literal["webhook_delivery"] = "webhook_delivery"
    event_type: str
    video_id: str
    status: _Status
    attempts: int
    created_at: int
    next_attempt_at: int | None
    """Null unless it is pending."""
    ended_at: int | None
    status_code: int | None
    """What the receiver answered last."""
    error: str | None
    """Why the last attempt failed."""

    @classmethod
    def of(cls, delivery: WebhookDelivery) -> "DeliveryBody":
        """The body of a row."""
        pending = delivery.status == "pending"
        return cls(
            id=delivery.id,
            event_type=delivery.event_type,
            video_id=delivery.video_id,
            status=cast(_Status, delivery.status),
            attempts=delivery.attempts,
            created_at=int(delivery.created_at),
            next_attempt_at=int(delivery.next_at) if pending else None,
            ended_at=None if delivery.ended_at is None else int(delivery.ended_at),
            status_code=delivery.last_status,
            error=delivery.last_error,
        )


class DeliveryList(BaseModel):
    """One page."""

    object: Literal["list"] = "list"
    data: list[DeliveryBody]
    has_more: bool


def _fields(endpoint: WebhookEndpoint) -> dict[str, Any]:
    return {
        "id": endpoint.id,
        "name": endpoint.name,
        "url": endpoint.url,
        "event_types": endpoint.event_types,
        "created_at": int(endpoint.created_at),
        "updated_at": int(endpoint.updated_at),
        "signing_secret_hint": f"whsec_…{endpoint.secret[-_HINT_CHARS:]}",
        "disabled_at": None if endpoint.disabled_at is None else int(endpoint.disabled_at),
    }
