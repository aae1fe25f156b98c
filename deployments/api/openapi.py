"""What the OpenAPI document says beyond what the routes' signatures do."""

from typing import Any

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from deployments.api.error_body import PROBLEM_MEDIA_TYPE, ErrorBody, Problem
from deployments.api.errors import codes_by_status
from deployments.api.schema import VideoCreate

Schema = dict[str, Any]
# As FastAPI types a route's `responses`.
Responses = dict[int | str, Schema]

DESCRIPTION = """\
Videos by LingBot-World, in the wire shape of OpenAI's `/v1/videos`. Every answer carries
`x-request-id`. Errors come in OpenAI's shape, or as `application/problem+json` to a request whose
`Accept` lists it; docs/errors.md lists the codes.
"""

_REF = "#/components/schemas/{model}"
_BINARY: Schema = {"type": "string", "format": "binary"}
_RETRY_AFTER: Schema = {
    "retry-after": {"description": "Whole seconds.", "schema": {"type": "integer"}},
    "retry-after-ms": {"description": "Milliseconds.", "schema": {"type": "integer"}},
}
_ON_VIDEO: Schema = {
    "openai-poll-after-ms": {
        "description": "When to ask again, in milliseconds; absent once the video is over.",
        "schema": {"type": "integer", "minimum": 500, "maximum": 10_000},
    }
}
_REPLAYED: Schema = {
    "idempotency-replayed": {
        "description": "`true` where an earlier request made this video.",
        "schema": {"const": "true"},
    }
}
_KEY: Schema = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Your name for this video. The same key makes no second one, as long as the "
    "first is not deleted; with another body it is refused.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}


class VideoApi(FastAPI):
    """An application whose document has the bodies that are read by hand."""

    def openapi(self) -> Schema:
        """The OpenAPI document."""
        if self.openapi_schema is None:
            document = super().openapi()
            document["components"]["schemas"] |= _schemas()
            document["components"]["securitySchemes"] = {
                "api_key": {"type": "http", "scheme": "bearer"}
            }
            # Without one where the server asks for none.
            document["security"] = [{"api_key": []}, {}]
        return self.openapi_schema or {}


def refusals(*statuses: int) -> Responses:
    """The `responses` of a route: what it may answer besides success, and any other error.

    Args:
        statuses: Those that its clients should know of.
    """
    codes = codes_by_status()
    described: Responses = {"default": _error("Any other error.")}
    for status in (*statuses, 401, 403):
        described[status] = _error(f"One of {', '.join(codes[status])}.")
        if status in (429, 503):
            described[status]["headers"] = _RETRY_AFTER
    return described


def video_answer(*, created: bool = False) -> Schema:
    """The successful answer that is a video: its headers, and what to do with its id."""
    routes = ("retrieve_video", "video_events", "download_video", "cancel_video", "delete_video")
    answer: Schema = {"headers": {**_ON_VIDEO, **(_REPLAYED if created else {})}}
    if created:
        parameters = {"video_id": "$response.body#/id"}
        answer["links"] = {name: {"operationId": name, "parameters": parameters} for name in routes}
    return answer


def file_answer(*media_types: str) -> Schema:
    """An answer that is a file of one of these kinds."""
    return {"content": {name: {"schema": _BINARY} for name in media_types}}


def create_request() -> Schema:
    """What `openapi_extra` must say of a route that reads `VideoCreate` by hand."""
    content = {
        "application/json": {"schema": {"$ref": _REF.format(model="VideoCreate")}},
        "multipart/form-data": {"schema": {"$ref": _REF.format(model="VideoForm")}},
    }
    return {"requestBody": {"required": True, "content": content}, "parameters": [_KEY]}


def _error(description: str) -> Schema:
    shapes = {"application/json": "ErrorBody", PROBLEM_MEDIA_TYPE: "Problem"}
    content = {
        media_type: {"schema": {"$ref": _REF.format(model=name)}}
        for media_type, name in shapes.items()
    }
    return {"description": description, "content": content}


def _schemas() -> Schema:
    _, requests = models_json_schema([(VideoCreate, "validation")], ref_template=_REF)
    answers = [(ErrorBody, "serialization"), (Problem, "serialization")]
    _, errors = models_json_schema(answers, ref_template=_REF)  # type: ignore[arg-type]
    schemas: Schema = {**requests["$defs"], **errors["$defs"]}
    create = schemas["VideoCreate"]
    create["required"] = ["prompt", "input_reference"]
    return {**schemas, "VideoForm": _form(create)}


def _form(create: Schema) -> Schema:
    """The same fields as parts of a form: files, and JSON where a field has parts of its own."""
    fields = {
        **create["properties"],
        "input_reference": {**_BINARY, "description": "The first frame: PNG, JPEG or WebP."},
        "input_reference[image_url]": {
            "type": "string",
            "description": "The first frame as a data: URL, instead of a file.",
        },
        "camera": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": _REF.format(model="CameraBody")},
            "description": "Where the camera goes.",
        },
        "poses": {**_BINARY, "description": "`.npy` of camera-to-world matrices [N,4,4]."},
        "intrinsics": {**_BINARY, "description": "`.npy` of fx, fy, cx, cy rows [N,4]."},
    }
    return {
        "type": "object",
        "description": "Fields of `POST /v1/videos` as a form.",
        "properties": fields,
        "required": ["prompt"],
        "additionalProperties": False,
    }
