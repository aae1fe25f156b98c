"""Which error becomes which status, code and public message; nothing else decides one."""

import asyncio
import math
from dataclasses import dataclass

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from ray.exceptions import RayActorError, TaskCancelledError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from cluster.errors import GangError
from cluster.logs import get_logger
from deployments.api.error_body import error_reply
from deployments.calls import root_cause
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
    StageError,
    TooManyStreamsError,
    UnauthenticatedError,
    VariantNotFoundError,
    WaitTooLongError,
    WebhookNotFoundError,
)
from model.errors import DenoiseCancelled, InvalidInputError

logger = get_logger(__name__)

RETRY_AFTER_S = 5
_INTERNAL = "the server failed on this request; the x-request-id finds it in the log"

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
    (JobFailedError, 500, "video_failed"),
)
_HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 416: "range_not_satisfiable"}
_JOB_CODES: tuple[tuple[type[BaseException], str], ...] = (
    # Not the client's doing, whose cancellation takes the job from its owner.
    (DenoiseCancelled, "interrupted"),
    (TaskCancelledError, "interrupted"),
    (asyncio.CancelledError, "cancelled"),
    (InvalidInputError, "invalid_value"),
    (PipelineUnavailableError, "pipeline_unavailable"),
    (ArtifactMissingError, "inputs_lost"),
    (ArtifactStoreError, "artifact_store_unavailable"),
    (RayActorError, "stage_died"),
)


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed, as clients may read it."""

    code: str
    message: str


def job_error(error: BaseException) -> JobError:
    """The public face of whatever ended a job; unknown errors show nothing of themselves."""
    cause = root_cause(error)
    if isinstance(cause, (GangError, StageError)):
        return JobError(cause.code, _first_line(cause))
    for kind, code in _JOB_CODES:
        if isinstance(cause, kind):
            return JobError(code, _first_line(cause) or code)
    return JobError("internal_error", f"the job failed with {type(cause).__name__}; see the log")


def _first_line(error: BaseException) -> str:
    """A message without the tracebacks of ranks that follow it."""
    return str(error).partition("\n")[0]


def refusal_code(error: GatewayError | InvalidInputError) -> str:
    """The code under which a refusal is answered and counted."""
    return next(code for kind, _, code in _STATUSES if isinstance(error, kind))


def codes_by_status() -> dict[int, list[str]]:
    """Every code with which a request may be refused; a failed video's own aside."""
    codes = [(status, code) for _, status, code in _STATUSES] + list(_HTTP_CODES.items())
    codes += [(500, "internal_error")]
    found: dict[int, list[str]] = {}
    for status, code in codes:
        found.setdefault(status, []).append(code)
    return dict(sorted(found.items()))


def job_codes() -> set[str]:
    """Every code with which the stages may end a job; gateways have a few of their own."""
    kinds: list[type[GangError] | type[StageError]] = [GangError, StageError]
    for kind in kinds:  # grows while it is walked
        kinds += kind.__subclasses__()
    return {code for _, code in _JOB_CODES} | {kind.code for kind in kinds} | {"internal_error"}


def install(api: FastAPI) -> None:
    """Makes every error of an API answer with a code, in OpenAI's shape or RFC 9457's."""
    api.add_exception_handler(InvalidInputError, _known)
    api.add_exception_handler(GatewayError, _known)
    api.add_exception_handler(RequestValidationError, _bad_query)
    api.add_exception_handler(HTTPException, _http)
    api.add_exception_handler(Exception, _unknown)


async def _known(request: Request, error: Exception) -> Response:
    status, code = next((s, c) for kind, s, c in _STATUSES if isinstance(error, kind))
    if isinstance(error, JobFailedError):
        code = error.code
    param = error.field if isinstance(error, InvalidInputError) else None
    logger.info("request_refused", status=status, code=code, param=param)
    headers = _headers(error, status)
    return error_reply(request, status, code, str(error), param=param, headers=headers)


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
