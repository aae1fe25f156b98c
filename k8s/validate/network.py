"""Selectors find pods, ports exist, and no door stands open that should not."""

import re
from collections.abc import Iterator
from typing import Any

from k8s.validate.manifests import INCREMENTAL, Manifests, Object, Pods, selects, title

# Named ports that others than the service's own pods may reach, and who: None is everybody.
_DOORS: dict[str, str | None] = {"serve": None, "metrics": None, "dashboard": "kuberay-operator"}
_URL = re.compile(r"\bhttps?://([a-z0-9-]+)(?=[:/\s]|$)")
_NAME = "app.kubernetes.io/name"
_KUBERAYS = "KubeRay's Gateway/"


def check_network(manifests: Manifests) -> Iterator[str]:
    """Selectors without pods, ports without a listener, policies that open too much."""
    pods = [*manifests.pods(), *_gateway_pods(manifests)]
    for item in manifests.objects:
        match item["kind"]:
            case "Service":
                yield from _service_faults(item, pods)
            case "PodDisruptionBudget":
                yield from _selector_faults(item, item["spec"].get("selector"), pods)
            case "PodMonitor":
                endpoints = item["spec"].get("podMetricsEndpoints", [])
                yield from _monitor_faults(item, endpoints, pods)
            case "NetworkPolicy":
                yield from _policy_faults(item, pods)
    yield from _backend_faults(manifests)
    if not any(_denies_all(policy) for policy in manifests.of("NetworkPolicy")):
        yield "NetworkPolicy: none denies what no other allows (an empty podSelector, no rules)"


def _service_faults(item: Object, pods: list[Pods]) -> Iterator[str]:
    chosen = _chosen({"matchLabels": item["spec"].get("selector", {})}, pods)
    if not chosen:
        yield f"{title(item)}: its selector matches no pod"
    for port in item["spec"].get("ports", []):
        target = port.get("targetPort", port["port"])
        yield from _port_faults(item, target, chosen)


def _selector_faults(item: Object, selector: Object | None, pods: list[Pods]) -> Iterator[str]:
    if not _chosen(selector, pods):
        yield f"{title(item)}: its selector matches no pod"


def _monitor_faults(item: Object, endpoints: list[Object], pods: list[Pods]) -> Iterator[str]:
    chosen = _chosen(item["spec"].get("selector"), pods)
    if not chosen:
        yield f"{title(item)}: its selector matches no pod"
    for endpoint in endpoints:
        target = endpoint.get("port", endpoint.get("portNumber"))
        yield from _port_faults(item, target, chosen)


def _port_faults(item: Object, target: Any, chosen: list[Pods]) -> Iterator[str]:
    for pods in chosen:
        known = pods.port(target) if isinstance(target, str) else target in pods.port_numbers()
        if not known:
            yield f"{title(item)}: {pods.owner} has no port {target}"


def _policy_faults(item: Object, pods: list[Pods]) -> Iterator[str]:
    spec = item["spec"]
    chosen = _chosen(spec["podSelector"], pods)
    if not chosen:
        yield f"{title(item)}: its selector matches no pod"
    for rule in spec.get("ingress", []):
        yield from _peer_faults(item, rule.get("from", []), pods)
        yield from _door_faults(item, rule, chosen)
    for rule in spec.get("egress", []):
        yield from _peer_faults(item, rule.get("to", []), pods)


def _peer_faults(item: Object, peers: list[Object], pods: list[Pods]) -> Iterator[str]:
    for peer in peers:
        if _is_own(peer) and not _chosen(peer["podSelector"], pods):
            yield f"{title(item)}: names pods {peer['podSelector']} that nothing here makes"


def _door_faults(item: Object, rule: Object, chosen: list[Pods]) -> Iterator[str]:
    peers = rule.get("from", [])
    if peers and all(map(_is_own, peers)):
        return
    if all(pods.owner.startswith("Gateway/") for pods in chosen):
        return  # they are there to be reached
    if all(pods.owner.startswith(_KUBERAYS) for pods in chosen):
        if not peers or {"namespaceSelector": {}} in peers:
            yield f"{title(item)}: opens plain HTTP and every path to everybody: give `from`"
        return
    names = [port.get("port") for port in rule.get("ports", [])]
    if not names:
        yield f"{title(item)}: opens every port to others than the service's own pods"
    for name in names:
        if name not in _DOORS:
            yield f"{title(item)}: opens port {name} to others than the service's own pods"
        elif _DOORS[name] is not None and not all(_is_from(_DOORS[name], p) for p in peers or [{}]):
            yield f"{title(item)}: opens port {name} to others than {_DOORS[name]}"
        else:
            yield from _port_faults(item, name, chosen)


def _gateway_pods(manifests: Manifests) -> Iterator[Pods]:
    """What a Gateway's implementation starts beside it, KubeRay's own Gateway included."""
    own = manifests.names("Gateway")
    for name in _gateways(manifests):
        labels = {"gateway.networking.k8s.io/gateway-name": name}
        kind = "Gateway/" if name in own else _KUBERAYS
        yield Pods(f"{kind}{name}", labels, {"containers": []})


def _gateways(manifests: Manifests) -> set[str]:
    stepwise = {f"{title(s).rpartition('/')[2]}-gateway" for s in _upgraded_in_steps(manifests)}
    return manifests.names("Gateway") | stepwise


def _upgraded_in_steps(manifests: Manifests) -> list[Object]:
    services = manifests.of("RayService")
    return [s for s in services if s["spec"].get("upgradeStrategy", {}).get("type") == INCREMENTAL]


def services_there(manifests: Manifests) -> set[str]:
    """Services that the overlay makes, and those that the operators make for it."""
    stepwise = {service["metadata"]["name"] for service in _upgraded_in_steps(manifests)}
    heads = {f"{name}-head-svc" for name in manifests.names("RayService")}
    # Upgraded in steps, each cluster has a service under a name of its own.
    serving = {f"{name}-serve-svc" for name in manifests.names("RayService") - stepwise}
    gateways = {f"{gateway}-istio" for gateway in _gateways(manifests)}
    return manifests.names("Service") | heads | serving | gateways


def _backend_faults(manifests: Manifests) -> Iterator[str]:
    known = services_there(manifests)
    for source, name in [*_backends(manifests), *_called(manifests)]:
        if name not in known:
            yield f"{source}: sends to service {name}, which neither this nor an operator makes"


def _called(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """Services in the arguments and variables of containers: URLs whose host has no dot."""
    for pods in manifests.pods():
        for container in pods.containers:
            values = [v.get("value", "") for v in container.get("env", [])]
            words = " ".join([*container.get("args", []), *values])
            for host in _URL.findall(words):
                yield f"{pods.owner} {container['name']}", host


def _backends(manifests: Manifests) -> Iterator[tuple[str, str]]:
    for item in manifests.of("Ingress"):
        for rule in item["spec"].get("rules", []):
            for path in rule["http"]["paths"]:
                yield title(item), path["backend"]["service"]["name"]
    for item in manifests.of("HTTPRoute"):
        for rule in item["spec"].get("rules", []):
            yield from ((title(item), to["name"]) for to in rule.get("backendRefs", []))


def _chosen(selector: Object | None, pods: list[Pods]) -> list[Pods]:
    return [p for p in pods if selects(selector, p.labels)]


def _is_own(peer: Object) -> bool:
    """Whether a peer is a pod of this namespace."""
    return "podSelector" in peer and "namespaceSelector" not in peer


def _is_from(name: str | None, peer: Object) -> bool:
    return bool(peer.get("podSelector", {}).get("matchLabels", {}).get(_NAME) == name)


def _denies_all(policy: Object) -> bool:
    spec = policy["spec"]
    both = {"Ingress", "Egress"} <= set(spec.get("policyTypes", []))
    return both and not spec["podSelector"] and not ({"ingress", "egress"} & set(spec))
