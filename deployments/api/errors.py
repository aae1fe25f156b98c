"""Which error becomes which status, code and public message; nothing else decides one."""

import asyncio
from dataclasses import dataclass

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from ray.exceptions import RayActorError, RayTaskError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from cluster.errors import GangError
from cluster.logs import get_logger
from deployments.errors import (
    BodyTooLargeError,
    ContentNotReadyError,
    DrainingError,
    GatewayError,
    IdempotencyMismatchError,
    JobFailedError,
    JobNotFoundError,
    MediaTypeError,
    PipelineUnavailableError,
    QueueFullError,
    VariantNotFoundError,
)
from model.errors import DenoiseCancelled, InvalidInputError

logger = get_logger(__name__)

RETRY_AFTER_S = 5
_INTERNAL = "the server failed on this request; the x-request-id finds it in the log"

# First match wins, so a kind stands before its base.
_STATUSES: tuple[tuple[type[Exception], int, str], ...] = (
    (InvalidInputError, 400, "invalid_value"),
    (JobNotFoundError, 404, "video_not_found"),
    (VariantNotFoundError, 404, "variant_not_found"),
    (ContentNotReadyError, 409, "video_not_ready"),
    (BodyTooLargeError, 413, "body_too_large"),
    (MediaTypeError, 415, "unsupported_media_type"),
    (IdempotencyMismatchError, 422, "idempotency_mismatch"),
    (QueueFullError, 429, "queue_full"),
    (DrainingError, 503, "draining"),
    (PipelineUnavailableError, 503, "pipeline_unavailable"),
    (JobFailedError, 500, "video_failed"),
)
_JOB_CODES: tuple[tuple[type[BaseException], str], ...] = (
    (DenoiseCancelled, "cancelled"),
    (asyncio.CancelledError, "cancelled"),
    (InvalidInputError, "invalid_value"),
    (PipelineUnavailableError, "pipeline_unavailable"),
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
    if isinstance(cause, GangError):
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


def root_cause(error: BaseException) -> BaseException:
    """What was raised in the process where it happened, out of Ray's wrappings."""
    while isinstance(error, RayTaskError) and isinstance(error.cause, BaseException):
        error = error.cause
    return error


def install(api: FastAPI) -> None:
    """Makes every error of an API answer in OpenAI's shape."""
    api.add_exception_handler(InvalidInputError, _known)
    api.add_exception_handler(GatewayError, _known)
    api.add_exception_handler(RequestValidationError, _bad_query)
    api.add_exception_handler(HTTPException, _http)
    api.add_exception_handler(Exception, _unknown)


async def _known(_request: Request, error: Exception) -> JSONResponse:
    status, code = next((s, c) for kind, s, c in _STATUSES if isinstance(error, kind))
    if isinstance(error, JobFailedError):
        code = error.code
    param = error.field if isinstance(error, InvalidInputError) else None
    logger.info("request_refused", status=status, code=code, param=param)
    headers = {"retry-after": str(RETRY_AFTER_S)} if status in (429, 503) else None
    return _reply(status, code, str(error), param=param, headers=headers)


async def _bad_query(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    param = str(first["loc"][-1])
    return _reply(400, "invalid_value", f"{param}: {first['msg']}", param=param)


async def _http(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    return _reply(error.status_code, code, error.detail, headers=dict(error.headers or {}))


async def _unknown(_request: Request, _error: Exception) -> JSONResponse:
    return _reply(500, "internal_error", _INTERNAL)


def _reply(
    status: int,
    code: str,
    message: str,
    *,
    param: str | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    body = {"error": {"message": message, "type": kind, "code": code, "param": param}}
    return JSONResponse(body, status, headers)
