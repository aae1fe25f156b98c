"""The two shapes of an error: OpenAI's, and RFC 9457's for who asks for it."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Literal

from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request

from deployments.ids import request_id_of

PROBLEM_MEDIA_TYPE = "application/problem+json"
# Nothing is found there: the code at its end says all, and docs/errors.md explains it.
_TYPE_PREFIX = "urn:problem-type:lingbot-serve:"
_REFUSED = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class _Shape(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class ErrorDetail(_Shape):
    """What went wrong."""

    message: str
    """For people; says what to send instead."""
    type: Literal[
        "invalid_request_error",
        "authentication_error",
        "permission_error",
        "rate_limit_error",
        "server_error",
    ]
    """Whose turn it is."""
    code: str
    """Stable; docs/errors.md lists them."""
    param: str | None
    """The field at fault, where there is one."""


class ErrorBody(_Shape):
    """An error as OpenAI's clients read it."""

    error: ErrorDetail


class Problem(_Shape):
    """An error by RFC 9457."""

    type: str
    """A URN that ends with `code`."""
    title: str
    """Of the status."""
    status: int
    detail: str
    """For people; says what to send instead."""
    code: str
    """Stable; docs/errors.md lists them."""
    param: str | None
    """The field at fault, where there is one."""
    request_id: str | None
    """Finds the request in the log."""


def error_reply(
    request: Request,
    status: int,
    code: str,
    message: str,
    *,
    param: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """An error in the shape that a request asks for.

    Args:
        request: What is answered.
        status: Of HTTP.
        code: Stable name of the error.
        message: For people.
        param: The field at fault.
        headers: To send beside it.
    """
    answer_headers = {**(headers or {}), "vary": "accept"}
    if _wants_problem(request):
        problem = Problem(
            type=_TYPE_PREFIX + code,
            title=HTTPStatus(status).phrase,
            status=status,
            detail=message,
            code=code,
            param=param,
            request_id=request_id_of(request.headers) or None,
        )
        return JSONResponse(problem.model_dump(), status, answer_headers, PROBLEM_MEDIA_TYPE)
    kind: Any = "server_error" if status >= 500 else _REFUSED.get(status, "invalid_request_error")
    detail = ErrorDetail(message=message, type=kind, code=code, param=param)
    return JSONResponse(ErrorBody(error=detail).model_dump(), status, answer_headers)


def _wants_problem(request: Request) -> bool:
    for listed in request.headers.get("accept", "").split(","):
        media_type, _, parameters = listed.partition(";")
        if media_type.strip().lower() == PROBLEM_MEDIA_TYPE:
            return "q=0" not in parameters.replace(" ", "").split(";")
    return False
