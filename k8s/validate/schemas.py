"""The shape of every object: Kubernetes' own schemas, and those of the operators' resources."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from k8s.validate.manifests import Manifests, Object, title

# The oldest release that the manifests are meant for, and the newest that the package knows.
KUBERNETES = ("1.32", kubernetes_validate.latest_version())

Kind = tuple[str, str]


@dataclass(frozen=True, slots=True)
class CustomResources:
    """Schemas of custom resources, ready to hold objects against.

    Args:
        schemas: By apiVersion and kind.
    """

    schemas: dict[Kind, Object]

    @classmethod
    def read(cls, folder: Path) -> "CustomResources":
        """All CustomResourceDefinitions in a folder's YAML files."""
        schemas: dict[Kind, Object] = {}
        for path in sorted(folder.glob("*.yaml")):
            definition = yaml.load(path.read_text(), Loader=yaml.CSafeLoader)  # ten times as quick
            spec = definition["spec"]
            for version in spec["versions"]:
                kind = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                schemas[kind] = _closed(version["schema"]["openAPIV3Schema"])
        return cls(schemas)

    def faults(self, item: Object) -> Iterator[str]:
        """What is wrong with an object once the API server has put its defaults in."""
        schema = self.schemas[_kind(item)]
        error = best_match(Draft202012Validator(schema).iter_errors(_with_defaults(item, schema)))
        if error is not None:
            where = ".".join(map(str, error.absolute_path))
            yield f"{title(item)}: {where}: {_shortened(error.message)}"


def check_schemas(manifests: Manifests, custom: CustomResources) -> Iterator[str]:
    """Objects that Kubernetes or an operator's definition would refuse."""
    for item in manifests.objects:
        if _kind(item) in custom.schemas:
            yield from custom.faults(item)
        elif is_builtin(item):
            yield from _builtin_faults(item, title(item))
    for pods in manifests.ray_pods():
        # Complete without the container that KubeRay adds, which has no image yet.
        containers = [{"image": "-", **container} for container in pods.spec["containers"]]
        spec = {**pods.spec, "containers": containers}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": spec}
        yield from _builtin_faults(pod, pods.owner)


def unchecked(manifests: Manifests, custom: CustomResources) -> set[Kind]:
    """Kinds that no schema at hand describes."""
    kinds = {_kind(o) for o in manifests.objects if not is_builtin(o)}
    return kinds - set(custom.schemas)


def is_builtin(item: Object) -> bool:
    """Whether an object is one of Kubernetes' own: their groups have no dot, or are its own."""
    group, slash, _ = str(item["apiVersion"]).partition("/")
    own = group.endswith(".k8s.io") and group != "gateway.networking.k8s.io"
    return not slash or "." not in group or (own and "x-k8s" not in group)


def _builtin_faults(item: Object, name: str) -> Iterator[str]:
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(item, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            where = ".".join(map(str, error.absolute_path))
            yield f"{name}: {where}: {_shortened(error.message)} (Kubernetes {version})"
        except kubernetes_validate.SchemaNotFoundError:
            yield f"{name}: Kubernetes {version} knows no {item['kind']} of {item['apiVersion']}"


def _kind(item: Object) -> Kind:
    return item["apiVersion"], item["kind"]


def _shortened(message: str, length: int = 300) -> str:
    return message if len(message) <= length else f"{message[:length]}…"


def _closed(schema: Any) -> Any:
    """The definition's dialect as plain JSON Schema, in which a misspelt field is a fault."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(part) for key, part in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        closed.pop("type", None)
        closed["anyOf"] = [{"type": "integer"}, {"type": "string"}]
        closed.pop("allOf", None)
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(schema.get("properties"), dict) and not open_ended:
        closed.setdefault("additionalProperties", False)
    if schema.get("nullable") and "type" in closed:
        closed["type"] = [closed["type"], "null"]
    return closed


def _with_defaults(value: Any, schema: Object) -> Any:
    if isinstance(value, list):
        return [_with_defaults(item, schema.get("items", {})) for item in value]
    if not isinstance(value, dict):
        return value
    properties = schema.get("properties", {})
    defaults = {k: p["default"] for k, p in properties.items() if "default" in p}
    other = schema.get("additionalProperties")
    below = other if isinstance(other, dict) else {}
    filled = {**defaults, **value}
    return {key: _with_defaults(part, properties.get(key, below)) for key, part in filled.items()}
