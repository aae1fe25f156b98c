"""What an overlay renders to: its objects, and the pods that they make."""

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from model.errors import LingBotError

OVERLAYS = Path(__file__).parents[1] / "overlays"
HEAD = "head"
# How KubeRay calls an upgrade in steps.
INCREMENTAL = "NewClusterWithIncrementalUpgrade"
_RENDER_TIMEOUT_S = 60.0

Object = dict[str, Any]
Labels = Mapping[str, str]


class RenderError(LingBotError):
    """kubectl is missing, or cannot render the folder; the message has its own words."""


@dataclass(frozen=True, slots=True)
class Pods:
    """Pods made from one template.

    Args:
        owner: Kind and name of what makes them, and the Ray group.
        labels: What selectors see.
        spec: The pod's specification.
        max_count: The most that there may be; None for kinds that this does not read.
        min_count: The fewest that there are, likewise.
        group: Ray's group; None outside a RayService.
    """

    owner: str
    labels: Labels
    spec: Object
    max_count: int | None = None
    min_count: int | None = None
    group: str | None = None

    @property
    def containers(self) -> list[Object]:
        """All of them, those that run before the others included."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def is_ray_worker(self) -> bool:
        return self.group not in (None, HEAD)

    def port(self, name: str) -> int | None:
        """Number of a container's port of this name."""
        ports = (port for c in self.spec["containers"] for port in c.get("ports", []))
        return next((port["containerPort"] for port in ports if port.get("name") == name), None)

    def port_numbers(self) -> set[int]:
        return {p["containerPort"] for c in self.spec["containers"] for p in c.get("ports", [])}


@dataclass(frozen=True, slots=True)
class Manifests:
    """The objects of one overlay.

    Args:
        name: Of the overlay.
        objects: As rendered.
    """

    name: str
    objects: list[Object] = field(repr=False)

    def of(self, kind: str) -> list[Object]:
        """All objects of a kind."""
        return [o for o in self.objects if o["kind"] == kind]

    def names(self, kind: str) -> set[str]:
        return {o["metadata"]["name"] for o in self.of(kind)}

    def pods(self) -> list[Pods]:
        """Every pod template in the overlay."""
        return [pods for o in self.objects for pods in _pods(o)]

    def ray_pods(self) -> list[Pods]:
        return [pods for pods in self.pods() if pods.group is not None]


def render(folder: Path) -> Manifests:
    """What `kubectl kustomize` makes of a folder.

    Raises:
        RenderError: It cannot.
    """
    try:
        done = subprocess.run(
            ["kubectl", "kustomize", str(folder)],
            capture_output=True,
            text=True,
            timeout=_RENDER_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise RenderError("kubectl is not on PATH; it renders the overlays") from error
    if done.returncode:
        raise RenderError(f"{folder.name} does not render: {done.stderr.strip()}")
    return Manifests(folder.name, [o for o in yaml.safe_load_all(done.stdout) if o])


def overlays() -> list[Path]:
    """Folders of all overlays."""
    return sorted(path.parent for path in OVERLAYS.glob("*/kustomization.yaml"))


def title(item: Object) -> str:
    """Kind and name, as messages say it."""
    return f"{item['kind']}/{item['metadata']['name']}"


def selects(selector: Object | None, labels: Labels) -> bool:
    """Whether a Kubernetes label selector matches; an empty one matches everything."""
    if selector is None:
        return False
    pairs = selector.get("matchLabels", {})
    return all(labels.get(key) == value for key, value in pairs.items()) and all(
        _meets(condition, labels) for condition in selector.get("matchExpressions", [])
    )


def _meets(condition: Object, labels: Labels) -> bool:
    value, values = labels.get(condition["key"]), condition.get("values", [])
    match condition["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case _:
            return value is None


def _pods(item: Object) -> Iterator[Pods]:
    match item["kind"]:
        case "RayService":
            yield from _ray_pods(item)
        case "Deployment" | "DaemonSet" | "Job":
            yield _templated(item, item["spec"]["template"])
        case "StatefulSet":
            claims = [{"name": c["metadata"]["name"]} for c in _claims(item)]
            pods = _templated(item, item["spec"]["template"])
            volumes = [*pods.spec.get("volumes", []), *claims]
            yield replace(pods, spec={**pods.spec, "volumes": volumes})
        case "CronJob":
            yield _templated(item, item["spec"]["jobTemplate"]["spec"]["template"])


def _claims(item: Object) -> list[Object]:
    claims: list[Object] = item["spec"].get("volumeClaimTemplates", [])
    return claims


def _templated(item: Object, template: Object) -> Pods:
    labels = template.get("metadata", {}).get("labels", {})
    return Pods(title(item), labels, template["spec"])


def _ray_pods(service: Object) -> Iterator[Pods]:
    cluster = service["spec"]["rayClusterConfig"]
    yield _group(service, cluster["headGroupSpec"], HEAD, (1, 1))
    for group in cluster["workerGroupSpecs"]:
        hosts = group.get("numOfHosts", 1)
        counts = (hosts * group.get("minReplicas", 0), hosts * group.get("maxReplicas", 1))
        yield _group(service, group, group["groupName"], counts)


def _group(service: Object, group: Object, name: str, counts: tuple[int, int]) -> Pods:
    # What KubeRay adds, as far as it is known before the cluster has a name.
    added = {
        "ray.io/is-ray-node": "yes",
        "ray.io/node-type": HEAD if name == HEAD else "worker",
        "ray.io/group": "headgroup" if name == HEAD else name,
        "ray.io/serve": str(name != HEAD).lower(),
    }
    template = group["template"]
    labels = {**template.get("metadata", {}).get("labels", {}), **group.get("labels", {}), **added}
    spec = template["spec"]
    cluster = service["spec"]["rayClusterConfig"]
    if name == HEAD and cluster.get("enableInTreeAutoscaling"):
        spec = {**spec, "containers": [*spec["containers"], _autoscaler(cluster)]}
    fewest, most = counts
    return Pods(f"{title(service)} {name}", labels, spec, most, fewest, name)


def _autoscaler(cluster: Object) -> Object:
    """The container that KubeRay puts beside the head, with our options for it."""
    keep = ("resources", "securityContext", "volumeMounts", "env", "envFrom")
    options = cluster.get("autoscalerOptions", {})
    return {"name": "autoscaler", **{key: options[key] for key in keep if key in options}}
