"""Reads small JSON bodies."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from deployments.api.body_stream import limited
from model.errors import InvalidInputError

_MAX_BYTES = 2**16
_TIMEOUT_S = 10.0

M = TypeVar("M", bound=BaseModel)


async def read_json(request: Request, model: type[M]) -> M:
    """Reads a body of at most 64 KiB; none at all is an empty object.

    Raises:
        BodyTooLargeError: It is longer; it is not read to its end.
        BodyTooSlowError: It takes more than ten seconds.
        InvalidInputError: It is no JSON, or a field is unknown, missing or wrong.
    """
    body = await limited(request, max_bytes=_MAX_BYTES, timeout_s=_TIMEOUT_S).body()
    try:
        return model.model_validate_json(body or b"{}")
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "body"
        raise InvalidInputError(field, first["msg"][:1].lower() + first["msg"][1:]) from error


def described(model: type[BaseModel]) -> dict[str, object]:
    """How OpenAPI shows such a body."""
    schema = model.model_json_schema()
    return {"requestBody": {"content": {"application/json": {"schema": schema}}}}
