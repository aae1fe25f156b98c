"""Reads `POST /v1/videos`: JSON or multipart, never more bytes than allowed."""

import json
from dataclasses import dataclass

from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.types import Message, Receive

from deployments.api.schema import VideoCreate
from deployments.errors import BodyTooLargeError, MediaTypeError
from model.errors import InvalidInputError

_FILE_FIELDS = ("input_reference", "poses", "intrinsics")
_JSON_FIELDS = ("camera", "input_reference")
_MAX_PARTS = 40
_REMEDIES = {
    "extra_forbidden": "is no field of this API; leave it out",
    "missing": "is required",
    "model_type": "must be one JSON object",
    "string_pattern_mismatch": "must be WxH in pixels, such as 832x480",
}


@dataclass(frozen=True, slots=True)
class CreateBody:
    """One create request as it came: checked fields, and files by their name."""

    fields: VideoCreate
    files: dict[str, bytes]


async def read_create_body(request: Request, *, max_bytes: int) -> CreateBody:
    """Reads and checks one request body.

    Args:
        request: The HTTP request; its body must not have been read.
        max_bytes: The longest body.

    Raises:
        BodyTooLargeError: The body is longer; it is not read to its end.
        MediaTypeError: It is neither JSON nor multipart.
        InvalidInputError: A field is unknown, missing or wrong.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    limited = Request(request.scope, _limited(request.receive, max_bytes))
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "application/json":
        return CreateBody(validate(_parse_json("body", await limited.body())), {})
    if media_type == "multipart/form-data":
        return await _read_multipart(limited, max_bytes)
    raise MediaTypeError("send application/json or multipart/form-data")


def validate(fields: object) -> VideoCreate:
    """Checks the fields of a request.

    Raises:
        InvalidInputError: Names the first field at fault.
    """
    try:
        return VideoCreate.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        whole = "num_frames" if first["type"] == "value_error" else "body"
        field = ".".join(str(part) for part in first["loc"]) or whole
        message = first["msg"].removeprefix("Value error, ")
        problem = _REMEDIES.get(first["type"], message[:1].lower() + message[1:])
        raise InvalidInputError(field, problem) from error


def _limited(receive: Receive, max_bytes: int) -> Receive:
    received = 0

    async def count() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > max_bytes:
            raise _too_large(max_bytes)
        return message

    return count


def _too_large(max_bytes: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"the request body exceeds {max_bytes} bytes")


def _parse_json(field: str, text: bytes | str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(field, "is not valid JSON") from error


async def _read_multipart(request: Request, max_bytes: int) -> CreateBody:
    try:
        form = await request.form(
            max_files=len(_FILE_FIELDS), max_fields=_MAX_PARTS, max_part_size=max_bytes
        )
    except MultiPartException as error:
        raise InvalidInputError("body", f"is not valid multipart: {error.message}") from error
    try:
        return await _sort_parts(form)
    finally:
        await form.close()


async def _sort_parts(form: FormData) -> CreateBody:
    fields: dict[str, object] = {}
    files: dict[str, bytes] = {}
    for name, value in form.multi_items():
        if name in fields or name in files:
            raise InvalidInputError(name, "is sent twice; send it once")
        if isinstance(value, UploadFile):
            if name not in _FILE_FIELDS:
                raise InvalidInputError(name, f"is no file field; those are {_FILE_FIELDS}")
            files[name] = await value.read()
        elif name == "input_reference[image_url]":  # how the stock client spells a nested field
            fields["input_reference"] = {"image_url": value}
        else:
            fields[name] = _parse_json(name, value) if name in _JSON_FIELDS else value
    return CreateBody(validate(fields), files)
