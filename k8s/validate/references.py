"""Every name that an object uses belongs to something that exists."""

from collections.abc import Iterator
from dataclasses import dataclass

from k8s.validate.external import External
from k8s.validate.manifests import Manifests, Object, Pods, title

# Labels of a RayService that name an object.
_BY_LABEL = {
    "kueue.x-k8s.io/queue-name": "LocalQueue",
    "volcano.sh/queue-name": "Queue",
    "ray.io/priority-class-name": "PriorityClass",
}


@dataclass(frozen=True, slots=True)
class Reference:
    """One object's mention of another.

    Args:
        source: Who mentions it.
        kind: Of what is mentioned.
        name: Of what is mentioned.
        key: Entry of a Secret or ConfigMap; None for the whole.
    """

    source: str
    kind: str
    name: str
    key: str | None = None


def check_references(manifests: Manifests, external: External) -> Iterator[str]:
    """References that lead nowhere, and volumes that are mounted but not there."""
    for reference in references(manifests):
        known = manifests.names(reference.kind) | external.names(reference.kind)
        if reference.name not in known:
            yield (
                f"{reference.source}: there is no {reference.kind} {reference.name}: make it, or "
                "list it in k8s/external.yaml"
            )
        elif reference.key is not None and reference.key not in _keys(
            manifests, external, reference
        ):
            yield f"{reference.source}: {reference.kind} {reference.name} has no {reference.key}"
    for pods in manifests.pods():
        yield from _mount_faults(pods)


def references(manifests: Manifests) -> Iterator[Reference]:
    """All names of objects that other objects mention."""
    for pods in manifests.pods():
        yield from _of_pods(pods)
    for item in manifests.objects:
        if item["kind"] in _BY_KIND:
            yield from _BY_KIND[item["kind"]](item)


def _keys(manifests: Manifests, external: External, reference: Reference) -> set[str]:
    if reference.name in external.secret_keys:
        return external.secret_keys[reference.name]
    [item] = [o for o in manifests.of(reference.kind) if o["metadata"]["name"] == reference.name]
    return set(item.get("data", {})) | set(item.get("stringData", {}))


def _of_pods(pods: Pods) -> Iterator[Reference]:
    spec, owner = pods.spec, pods.owner
    if "serviceAccountName" in spec:
        yield Reference(owner, "ServiceAccount", spec["serviceAccountName"])
    if "priorityClassName" in spec:
        yield Reference(owner, "PriorityClass", spec["priorityClassName"])
    for secret in spec.get("imagePullSecrets", []):
        yield Reference(owner, "Secret", secret["name"])
    for volume in spec.get("volumes", []):
        yield from _of_volume(owner, volume)
    for container in pods.containers:
        yield from _of_environment(f"{owner} {container['name']}", container)


def _of_volume(owner: str, volume: Object) -> Iterator[Reference]:
    if claim := volume.get("persistentVolumeClaim"):
        yield Reference(owner, "PersistentVolumeClaim", claim["claimName"])
    sources = [volume, *volume.get("projected", {}).get("sources", [])]
    for source in sources:
        if secret := source.get("secret"):
            name = secret.get("secretName") or secret["name"]
            yield Reference(owner, "Secret", name)
            yield from (Reference(owner, "Secret", name, i["key"]) for i in secret.get("items", []))
        if config := source.get("configMap"):
            yield Reference(owner, "ConfigMap", config["name"])


def _of_environment(owner: str, container: Object) -> Iterator[Reference]:
    for variable in container.get("env", []):
        origin = variable.get("valueFrom", {})
        if key := origin.get("secretKeyRef"):
            yield Reference(owner, "Secret", key["name"], key["key"])
        if key := origin.get("configMapKeyRef"):
            yield Reference(owner, "ConfigMap", key["name"], key["key"])
    for source in container.get("envFrom", []):
        if secret := source.get("secretRef"):
            yield Reference(owner, "Secret", secret["name"])
        if config := source.get("configMapRef"):
            yield Reference(owner, "ConfigMap", config["name"])


def _of_ray(item: Object) -> Iterator[Reference]:
    owner, cluster = title(item), item["spec"]["rayClusterConfig"]
    yield from _of_service(item)
    if secret := cluster.get("authOptions", {}).get("secretName"):
        yield Reference(owner, "Secret", secret, "auth_token")
    store = cluster.get("gcsFaultToleranceOptions", {})
    for field in ("redisPassword", "redisUsername"):
        if key := store.get(field, {}).get("valueFrom", {}).get("secretKeyRef"):
            yield Reference(owner, "Secret", key["name"], key["key"])
    if address := store.get("redisAddress"):
        host = address.rpartition("//")[2].partition(":")[0]
        yield Reference(owner, "Service", host.partition(".")[0])


def _of_service(item: Object) -> Iterator[Reference]:
    labels = item["metadata"].get("labels", {})
    for label, kind in _BY_LABEL.items():
        if label in labels:
            yield Reference(title(item), kind, labels[label])
    options = item["spec"].get("upgradeStrategy", {}).get("clusterUpgradeOptions", {})
    if "gatewayClassName" in options:
        yield Reference(title(item), "GatewayClass", options["gatewayClassName"])


def _of_gateway(item: Object) -> Iterator[Reference]:
    yield Reference(title(item), "GatewayClass", item["spec"]["gatewayClassName"])
    for listener in item["spec"]["listeners"]:
        for certificate in listener.get("tls", {}).get("certificateRefs", []):
            yield Reference(title(item), certificate.get("kind", "Secret"), certificate["name"])


def _of_ingress(item: Object) -> Iterator[Reference]:
    yield Reference(title(item), "IngressClass", item["spec"]["ingressClassName"])
    for tls in item["spec"].get("tls", []):
        yield Reference(title(item), "Secret", tls["secretName"])


def _of_route(item: Object) -> Iterator[Reference]:
    for parent in item["spec"].get("parentRefs", []):
        yield Reference(title(item), parent.get("kind", "Gateway"), parent["name"])


def _of_claim(item: Object) -> Iterator[Reference]:
    if "storageClassName" in item["spec"]:
        yield Reference(title(item), "StorageClass", item["spec"]["storageClassName"])


def _of_account(item: Object) -> Iterator[Reference]:
    for secret in item.get("imagePullSecrets", []):
        yield Reference(title(item), "Secret", secret["name"])


_BY_KIND = {
    "Gateway": _of_gateway,
    "HTTPRoute": _of_route,
    "Ingress": _of_ingress,
    "PersistentVolumeClaim": _of_claim,
    "RayService": _of_ray,
    "ServiceAccount": _of_account,
}


def _mount_faults(pods: Pods) -> Iterator[str]:
    volumes = {volume["name"] for volume in pods.spec.get("volumes", [])}
    for container in pods.containers:
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes:
                yield f"{pods.owner} {container['name']}: mounts {mount['name']}, no such volume"
