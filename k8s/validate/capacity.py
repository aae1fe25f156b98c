"""Every replica finds a node: one with its labels, with room for what it reserves."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from cluster.placement import replica_bundles
from deployments.gateway_config import GatewayConfig
from deployments.messages import Stage
from deployments.pipeline_config import PipelineConfig
from k8s.validate.manifests import Manifests, Pods
from k8s.validate.serve_config import builder_arguments, scaled_replicas

Resources = Mapping[str, float]
_GPU = "nvidia.com/gpu"


@dataclass(frozen=True, slots=True)
class Demand:
    """What one replica needs.

    Args:
        name: Of its stage.
        selector: Labels of its nodes.
        bundles: Each of these has to fit on one node.
        one_node: Whether all bundles have to fit on the same.
        fewest: Replicas that always run.
        most: Replicas that there may be.
    """

    name: str
    selector: Mapping[str, str]
    bundles: list[Resources]
    one_node: bool
    fewest: int
    most: int

    @property
    def total(self) -> Resources:
        return {k: sum(b.get(k, 0) for b in self.bundles) for k in ("CPU", "GPU")}


def check_capacity(manifests: Manifests) -> Iterator[str]:
    """Replicas that would wait for a node for ever."""
    workers = [pods for pods in manifests.ray_pods() if pods.is_ray_worker]
    scaled = scaled_replicas(manifests)
    demands = []
    for demand in _demands(manifests):
        fewest, most = scaled.get(demand.name, (demand.fewest, demand.most))
        demands.append(replace(demand, fewest=fewest, most=most))
    for demand in demands:
        yield from _placement_faults(demand, workers)
    for pool in _pools(demands):
        yield from _room_faults(pool, workers)


def _demands(manifests: Manifests) -> Iterator[Demand]:
    for config in builder_arguments(manifests):
        if isinstance(config, GatewayConfig):
            bundle, count = {"CPU": config.num_cpus}, config.num_replicas
            yield Demand("gateway", config.label_selector, [bundle], True, count, count)
        if isinstance(config, PipelineConfig):
            bundle = {"CPU": config.num_cpus}
            yield Demand("pipeline", config.label_selector, [bundle], True, 1, 1)
            yield from _stages(config)


def _stages(config: PipelineConfig) -> Iterator[Demand]:
    names = (Stage.TEXT_ENCODER, Stage.IMAGE_ENCODER, Stage.VAE_ENCODER, Stage.VAE_DECODER)
    for name, stage in zip(names, config.encoders_and_decoder, strict=True):
        bundle = {"CPU": stage.num_cpus, "GPU": stage.num_gpus}
        count = stage.num_replicas
        yield Demand(name.value, stage.label_selector, [bundle], True, count, stage.max_replicas)
    denoiser = config.denoiser
    yield Demand(
        Stage.DENOISER.value,
        denoiser.label_selector,
        list(replica_bundles(denoiser.gang)),
        denoiser.gang.placement == "STRICT_PACK",
        denoiser.num_replicas,
        denoiser.max_replicas,
    )


def _placement_faults(demand: Demand, workers: list[Pods]) -> Iterator[str]:
    matching = [pods for pods in workers if _matches(demand.selector, pods)]
    if not matching:
        yield f"{demand.name}: no worker group has the labels {dict(demand.selector)}"
        return
    parts = [demand.total] if demand.one_node else demand.bundles
    if not any(all(_fits(part, _node(pods)) for part in parts) for pods in matching):
        groups = ", ".join(f"{p.group} {dict(_node(p))}" for p in matching)
        yield f"{demand.name}: a replica reserves {dict(demand.total)}; no node has it: {groups}"


def _pools(demands: list[Demand]) -> list[list[Demand]]:
    """Demands by the nodes that they compete for: those with the same selector."""
    pools: dict[tuple[tuple[str, str], ...], list[Demand]] = {}
    for demand in demands:
        pools.setdefault(tuple(sorted(demand.selector.items())), []).append(demand)
    return list(pools.values())


def _room_faults(pool: list[Demand], workers: list[Pods]) -> Iterator[str]:
    """All of a pool's replicas at once against all of its nodes at once."""
    matching = [pods for pods in workers if _matches(pool[0].selector, pods)]
    if not matching:
        return
    names = ", ".join(demand.name for demand in pool)
    for resource in ("CPU", "GPU"):
        need = sum(demand.most * demand.total[resource] for demand in pool)
        have = sum((pods.max_count or 0) * _node(pods)[resource] for pods in matching)
        if need > have + 1e-6:
            yield f"{names}: at most {need:g} {resource} are reserved, {have:g} can be there"
        need = sum(demand.fewest * demand.total[resource] for demand in pool)
        have = sum((pods.min_count or 0) * _node(pods)[resource] for pods in matching)
        if need > have + 1e-6:
            yield f"{names}: {need:g} {resource} are always reserved, minReplicas bring {have:g}"


def _node(pods: Pods) -> Resources:
    """What KubeRay announces to Ray for a pod: its Ray container's limits."""
    limits = pods.spec["containers"][0].get("resources", {}).get("limits", {})
    return {"CPU": _quantity(limits.get("cpu", 0)), "GPU": _quantity(limits.get(_GPU, 0))}


def _quantity(value: object) -> float:
    text = str(value)
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def _fits(need: Resources, have: Resources) -> bool:
    return all(need.get(key, 0) <= have[key] + 1e-6 for key in have)


def _matches(selector: Mapping[str, str], pods: Pods) -> bool:
    return all(_meets(want, pods.labels.get(key)) for key, want in selector.items())


def _meets(want: str, value: str | None) -> bool:
    """Ray's label conditions: `a`, `!a`, `in(a,b)` and `!in(a,b)`."""
    negated, plain = want.startswith("!"), want.removeprefix("!")
    choice = re.fullmatch(r"in\((.*)\)", plain)
    return (value in (choice.group(1).split(",") if choice else [plain])) != negated
