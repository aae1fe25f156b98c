"""What of an OpenAPI document its clients would miss in a later one."""

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]


def breaks(old: Schema, new: Schema) -> list[str]:
    """Every promise of an older document that a newer one does not keep.

    Routes, parameters and answers stay. A request may hold all that it could, and needs nothing
    more. An answer holds all that it did, of no other type.

    Args:
        old: What clients were told.
        new: What they would be told.
    """
    found = list(_routes(old["paths"], new["paths"]))
    sent = {"VideoCreate", "VideoForm", "CameraBody", "ImageReference", "Solver"}
    for name, schema in old["components"]["schemas"].items():
        later = new["components"]["schemas"].get(name)
        if later is None:
            found.append(f"{name} is gone")
        else:
            found += _fields(name, schema, later, is_request=name in sent)
    return found


def _routes(old: Schema, new: Schema) -> Iterator[str]:
    for path, operations in old.items():
        for method, operation in operations.items():
            name = f"{method.upper()} {path}"
            later = new.get(path, {}).get(method)
            if later is None:
                yield f"{name} is gone"
                continue
            if operation["operationId"] != later["operationId"]:
                yield f"{name} is called {later['operationId']}"
            successes = {status for status in operation["responses"] if status < "400"}
            for status in sorted(successes - later["responses"].keys()):
                yield f"{name} no longer answers {status}"
            yield from _parameters(name, operation, later)


def _parameters(name: str, old: Schema, new: Schema) -> Iterator[str]:
    before = {parameter["name"]: parameter for parameter in old.get("parameters", [])}
    after = {parameter["name"]: parameter for parameter in new.get("parameters", [])}
    for gone in sorted(before.keys() - after.keys()):
        yield f"{name} no longer takes {gone}"
    for parameter, described in after.items():
        was_required = before.get(parameter, {}).get("required", False)
        if described.get("required", False) and not was_required:
            yield f"{name} requires {parameter}"


def _fields(name: str, old: Schema, new: Schema, *, is_request: bool) -> Iterator[str]:
    before, after = old.get("properties", {}), new.get("properties", {})
    for field, schema in before.items():
        if field not in after:
            yield f"{name}.{field} is gone"
            continue
        was, now = _types(schema), _types(after[field])
        if not (was <= now if is_request else now <= was):
            yield f"{name}.{field} was {sorted(was)} and is {sorted(now)}"
    required_before, required_after = set(old.get("required", [])), set(new.get("required", []))
    if is_request:
        yield from (f"{name} requires {field}" for field in required_after - required_before)
    else:
        yield from (f"{name} may lack {field}" for field in required_before - required_after)
    values, later_values = set(old.get("enum", [])), set(new.get("enum", []))
    if is_request and values - later_values:
        yield f"{name} no longer knows {sorted(values - later_values)}"


def _types(schema: Schema) -> set[str]:
    """Whatever a value may be: types, models, and the very values where they are listed."""
    if "anyOf" in schema:
        return set().union(*map(_types, schema["anyOf"]))
    if "$ref" in schema:
        return {schema["$ref"].rpartition("/")[2]}
    if "enum" in schema:
        return {repr(value) for value in schema["enum"]}
    if "items" in schema:
        return {f"list of {kind}" for kind in _types(schema["items"])}
    if isinstance(schema.get("additionalProperties"), dict):
        return {f"map to {kind}" for kind in _types(schema["additionalProperties"])}
    return {repr(schema["const"]) if "const" in schema else schema.get("type", "anything")}
