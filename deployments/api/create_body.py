"""Reads `POST /v1/videos`: JSON or multipart, never more bytes than allowed."""

import json
import re
from dataclasses import dataclass

from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from deployments.api.body_stream import limited
from deployments.api.schema import VideoCreate
from deployments.errors import MediaTypeError
from deployments.gateway_config import Limits
from model.errors import InvalidInputError

_FILE_FIELDS = ("input_reference", "poses", "intrinsics")
_JSON_FIELDS = ("camera", "input_reference")
_UTF_8 = re.compile(r"""charset\s*=\s*["']?utf-?8\b""")
_MAX_PARTS = 40
_MAX_NAME = 80
_NUMBERS_PER_POSE = 20
_OTHER_VALUES = 1000
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


async def read_create_body(request: Request, limits: Limits) -> CreateBody:
    """Reads and checks one request body.

    Args:
        request: The HTTP request; its body must not have been read.
        limits: Of its length and of the time that it takes.

    Raises:
        BodyTooLargeError: The body is longer; it is not read to its end.
        BodyTooSlowError: It does not come in time.
        MediaTypeError: It is neither JSON nor multipart.
        InvalidInputError: A field is unknown, missing or wrong.
    """
    body = limited(request, max_bytes=limits.max_body_bytes, timeout_s=limits.body_timeout_s)
    media_type, _, parameters = request.headers.get("content-type", "").lower().partition(";")
    if "charset" in parameters and not _UTF_8.search(parameters):
        raise MediaTypeError("send text as UTF-8")
    media_type = media_type.strip()
    if media_type == "application/json":
        return CreateBody(validate(_parse_json("body", await body.body(), limits)), {})
    if media_type == "multipart/form-data":
        return await _read_multipart(body, limits)
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
        field = _printable(".".join(str(part) for part in first["loc"])) or whole
        message = first["msg"].removeprefix("Value error, ")
        problem = _REMEDIES.get(first["type"], message[:1].lower() + message[1:])
        raise InvalidInputError(field, problem) from error


def _printable(name: str) -> str:
    """The name of a field as an answer and the log can bear it: strangers choose it."""
    return "".join(c if c.isprintable() else "?" for c in name[:_MAX_NAME])


def _parse_json(field: str, text: bytes | str, limits: Limits) -> object:
    most = _NUMBERS_PER_POSE * limits.max_poses + _OTHER_VALUES
    # Counted before parsing, which would hold up every other request for seconds.
    values = text.count(b",") if isinstance(text, bytes) else text.count(",")
    if values > most:
        raise InvalidInputError(field, f"has more than {most} values; send fewer poses")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(field, "is not valid JSON") from error


async def _read_multipart(request: Request, limits: Limits) -> CreateBody:
    try:
        form = await request.form(
            max_files=len(_FILE_FIELDS), max_fields=_MAX_PARTS, max_part_size=limits.max_body_bytes
        )
    except MultiPartException as error:
        raise InvalidInputError("body", f"is not valid multipart: {error.message}") from error
    try:
        return await _sort_parts(form, limits)
    finally:
        await form.close()


async def _sort_parts(form: FormData, limits: Limits) -> CreateBody:
    fields: dict[str, object] = {}
    files: dict[str, bytes] = {}
    for name, value in form.multi_items():
        if name in fields or name in files:
            raise InvalidInputError(_printable(name), "is sent twice; send it once")
        if isinstance(value, UploadFile):
            if name not in _FILE_FIELDS:
                raise InvalidInputError(
                    _printable(name), f"is no file field; those are {_FILE_FIELDS}"
                )
            files[name] = await value.read()
        elif name == "input_reference[image_url]":  # how the stock client spells a nested field
            fields["input_reference"] = {"image_url": value}
        else:
            fields[name] = _parse_json(name, value, limits) if name in _JSON_FIELDS else value
    return CreateBody(validate(fields), files)
