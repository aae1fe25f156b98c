"""The OpenAPI document that is checked in, and what clients were promised by it."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployments.api.export import document
from tests.support.openapi_compat import breaks

DOCS = Path(__file__).resolve().parents[2] / "docs"
Schema = dict[str, Any]


@pytest.fixture(scope="module")
def now() -> Schema:
    schema: Schema = json.loads(document())
    return schema


@pytest.fixture(scope="module")
def promised() -> Schema:
    schema: Schema = json.loads((DOCS / "openapi-baseline.json").read_text())
    return schema


def test_the_document_is_checked_in(now: Schema) -> None:
    written = json.loads((DOCS / "openapi.json").read_text())
    assert written == now, "run `make openapi`"


def test_promises_are_kept(now: Schema, promised: Schema) -> None:
    assert breaks(promised, now) == []


def test_every_operation_has_its_own_words(now: Schema) -> None:
    operations = [operation for path in now["paths"].values() for operation in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(ids) == len(set(ids))
    assert [o["operationId"] for o in operations if not o.get("description")] == []


def test_references_lead_somewhere(now: Schema) -> None:
    def references(node: Any) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
            return own.union(*map(references, node.values()))
        return set().union(*map(references, node)) if isinstance(node, list) else set()

    names = {reference.removeprefix("#/components/schemas/") for reference in references(now)}
    assert names <= now["components"]["schemas"].keys()


def _video(schema: Schema) -> Schema:
    body: Schema = schema["components"]["schemas"]["VideoBody"]
    return body


def _create(schema: Schema) -> Schema:
    body: Schema = schema["components"]["schemas"]["VideoCreate"]
    return body


BREAKING: dict[str, tuple[Callable[[Schema], object], str]] = {
    "route": (lambda s: s["paths"].pop("/v1/videos/sync"), "POST /v1/videos/sync is gone"),
    "operation": (
        lambda s: s["paths"]["/v1/videos"]["get"].update(operationId="page"),
        "GET /v1/videos is called page",
    ),
    "parameter": (
        lambda s: s["paths"]["/v1/videos"]["get"]["parameters"].clear(),
        "GET /v1/videos no longer takes after",
    ),
    "needed parameter": (
        lambda s: s["paths"]["/v1/videos"]["post"]["parameters"].append(
            {"name": "x", "in": "header", "required": True}
        ),
        "POST /v1/videos requires x",
    ),
    "answer": (
        lambda s: s["paths"]["/v1/videos/{video_id}/content"]["get"]["responses"].pop("206"),
        "GET /v1/videos/{video_id}/content no longer answers 206",
    ),
    "field": (lambda s: _video(s)["properties"].pop("progress"), "VideoBody.progress is gone"),
    "type": (
        lambda s: _video(s)["properties"].update(seconds={"type": "number"}),
        "VideoBody.seconds was ['string'] and is ['number']",
    ),
    "null": (
        lambda s: _video(s)["properties"].update(
            progress={"anyOf": [{"type": "integer"}, {"type": "null"}]}
        ),
        "VideoBody.progress was ['integer'] and is ['integer', 'null']",
    ),
    "fifth state": (
        lambda s: _video(s)["properties"]["status"]["enum"].append("cancelled"),
        "VideoBody.status was",
    ),
    "perhaps absent": (lambda s: _video(s)["required"].remove("id"), "VideoBody may lack id"),
    "needed field": (lambda s: _create(s)["required"].append("seed"), "VideoCreate requires seed"),
    "forgotten field": (
        lambda s: _create(s)["properties"].pop("flow_shift"),
        "VideoCreate.flow_shift is gone",
    ),
    "forgotten value": (
        lambda s: s["components"]["schemas"]["Solver"]["enum"].remove("dpm++"),
        "Solver no longer knows ['dpm++']",
    ),
}


@pytest.mark.parametrize("name", BREAKING)
def test_what_breaks_clients_is_seen(promised: Schema, name: str) -> None:
    change, words = BREAKING[name]
    changed = copy.deepcopy(promised)
    change(changed)
    assert any(found.startswith(words) for found in breaks(promised, changed))


def test_additions_break_nobody(promised: Schema) -> None:
    grown = copy.deepcopy(promised)
    _video(grown)["properties"]["mood"] = {"type": "string"}
    _create(grown)["properties"]["mood"] = {"type": "string"}
    grown["paths"]["/v2/videos"] = {}
    assert breaks(promised, grown) == []
