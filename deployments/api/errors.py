"""Which error becomes which status, code and public message; nothing else decides one."""

import math

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from cluster.logs import get_logger
from deployments.api.error_body import error_reply
from deployments.errors import (
    ArtifactMissingError,
    ArtifactStoreError,
    BodyTooLargeError,
    BodyTooSlowError,
    ContentExpiredError,
    ContentNotReadyError,
    DeliveryNotFoundError,
    DrainingError,
    EndpointDisabledError,
    GatewayError,
    IdempotencyMismatchError,
    JobFailedError,
    JobNotFoundError,
    MediaTypeError,
    PermissionDeniedError,
    PipelineUnavailableError,
    QueueFullError,
    QuotaExceededError,
    TooManyStreamsError,
    UnauthenticatedError,
    VariantNotFoundError,
    WaitTooLongError,
    WebhookNotFoundError,
)
from deployments.jobs.insist import DATABASE_AWAY
from model.errors import InvalidInputError

logger = get_logger(__name__)

RETRY_AFTER_S = 5
_INTERNAL = "the server failed on this request; the x-request-id finds it in the log"
# The driver's own words name hosts and statements.
_NO_DATABASE = "the database of jobs does not answer; send the request again later"

# First match wins, so a kind stands before its base.
_STATUSES: tuple[tuple[type[Exception], int, str], ...] = (
    (InvalidInputError, 400, "invalid_value"),
    (UnauthenticatedError, 401, "invalid_api_key"),
    (PermissionDeniedError, 403, "permission_denied"),
    (JobNotFoundError, 404, "video_not_found"),
    (WebhookNotFoundError, 404, "webhook_not_found"),
    (DeliveryNotFoundError, 404, "delivery_not_found"),
    (VariantNotFoundError, 404, "variant_not_found"),
    (ArtifactMissingError, 404, "file_missing"),
    (BodyTooSlowError, 408, "body_too_slow"),
    (EndpointDisabledError, 409, "webhook_disabled"),
    (ContentNotReadyError, 409, "video_not_ready"),
    (ContentExpiredError, 410, "expired"),
    (BodyTooLargeError, 413, "body_too_large"),
    (MediaTypeError, 415, "unsupported_media_type"),
    (IdempotencyMismatchError, 422, "idempotency_mismatch"),
    (WaitTooLongError, 429, "queue_wait_too_long"),
    (QuotaExceededError, 429, "quota_exceeded"),
    (QueueFullError, 429, "queue_full"),
    (TooManyStreamsError, 429, "too_many_streams"),
    (DrainingError, 503, "draining"),
    (PipelineUnavailableError, 503, "pipeline_unavailable"),
    (ArtifactStoreError, 503, "artifact_store_unavailable"),
    *((kind, 503, "database_unavailable") for kind in DATABASE_AWAY),
    (JobFailedError, 500, "video_failed"),
)
REFUSALS = (GatewayError, InvalidInputError, *DATABASE_AWAY)
_HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 416: "range_not_satisfiable"}


def refusal_code(error: Exception) -> str:
    """The code under which a refusal, one of `REFUSALS`, is answered and counted."""
    return next(code for kind, _, code in _STATUSES if isinstance(error, kind))


def codes_by_status() -> dict[int, list[str]]:
    """Every code with which a request may be refused; a failed video's own aside."""
    codes = list(dict.fromkeys((status, code) for _, status, code in _STATUSES))
    codes += list(_HTTP_CODES.items())
    codes += [(500, "internal_error")]
    found: dict[int, list[str]] = {}
    for status, code in codes:
        found.setdefault(status, []).append(code)
    return dict(sorted(found.items()))


def install(api: FastAPI) -> None:
    """Makes every error of an API answer with a code, in OpenAI's shape or RFC 9457's."""
    for kind in REFUSALS:
        api.add_exception_handler(kind, _known)
    api.add_exception_handler(RequestValidationError, _bad_query)
    api.add_exception_handler(HTTPException, _http)
    api.add_exception_handler(Exception, _unknown)


async def _known(request: Request, error: Exception) -> Response:
    status, code = next((s, c) for kind, s, c in _STATUSES if isinstance(error, kind))
    if isinstance(error, JobFailedError):
        code = error.code
    param = error.field if isinstance(error, InvalidInputError) else None
    logger.info("request_refused", status=status, code=code, param=param)
    message = _NO_DATABASE if isinstance(error, DATABASE_AWAY) else str(error)
    headers = _headers(error, status)
    return error_reply(request, status, code, message, param=param, headers=headers)


def _headers(error: Exception, status: int) -> dict[str, str]:
    """Whether and when to send a request again, in all the words that clients know."""
    if isinstance(error, (ContentNotReadyError, JobFailedError)):
        # The stock client repeats what was in conflict or failed, at once: to no avail here.
        return {"x-should-retry": "false"}
    if status == 401:
        return {"www-authenticate": 'Bearer realm="lingbot-serve"'}
    if status not in (429, 503):
        return {}
    known_s = error.retry_after_s if isinstance(error, GatewayError) else None
    wait_s = RETRY_AFTER_S if known_s is None else known_s
    return {"retry-after": str(math.ceil(wait_s)), "retry-after-ms": str(math.ceil(1000 * wait_s))}


async def _bad_query(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    param = str(first["loc"][-1])
    message = f"{param}: {first['msg']}"
    return error_reply(request, 400, "invalid_value", message, param=param)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 204:  # has no body
        return Response(status_code=204, headers=error.headers)
    code = _HTTP_CODES.get(error.status_code, "invalid_request")
    return error_reply(request, error.status_code, code, error.detail, headers=error.headers)


async def _unknown(request: Request, _error: Exception) -> Response:
    return error_reply(request, 500, "internal_error", _INTERNAL)
