"""Rules of KubeRay and Kueue that their schemas cannot say, and our own on top of Ray's."""

from collections.abc import Iterator
from importlib.metadata import version

from deployments.gateway_config import GatewayConfig
from deployments.pipeline_config import PipelineConfig
from k8s.validate.manifests import INCREMENTAL, Manifests, Object, Pods, title
from k8s.validate.serve_config import builder_arguments

_KUEUE_QUEUE, _KUEUE_ELASTIC = "kueue.x-k8s.io/queue-name", "kueue.x-k8s.io/elastic-job"


def check_operators(manifests: Manifests) -> Iterator[str]:
    """Manifests that an operator's webhook or controller would refuse, or misunderstand."""
    for service in manifests.of("RayService"):
        name, cluster = title(service), service["spec"]["rayClusterConfig"]
        yield from _cluster_faults(name, cluster)
        yield from _upgrade_faults(name, service["spec"])
        yield from _autoscaler_faults(name, cluster)
        yield from _kueue_faults(service)
        for group in cluster["workerGroupSpecs"]:
            yield from _group_faults(f"{name} {group['groupName']}", group)
    longest_s = max(_longest_clips_s(manifests), default=0.0)
    for service in manifests.of("RayService"):
        if service["spec"].get("rayClusterDeletionDelaySeconds", 60) < longest_s:
            yield (
                f"{title(service)}: rayClusterDeletionDelaySeconds: an upgrade would end clips "
                f"that may take {longest_s:g} s (pipeline.longest_clip_s, gateway.drain_timeout_s)"
            )
    for pods in manifests.ray_pods():
        yield from _grace_faults(pods, longest_s)


def _cluster_faults(name: str, cluster: Object) -> Iterator[str]:
    if cluster.get("rayVersion") != version("ray"):
        yield f"{name}: rayVersion {cluster.get('rayVersion')} is not the image's {version('ray')}"
    if cluster.get("authOptions", {}).get("mode") != "token":
        yield f"{name}: authOptions.mode: must be token, or whoever reaches the head runs code"
    head = cluster["headGroupSpec"]
    if head.get("rayStartParams", {}).get("num-cpus") != "0":
        yield f'{name} head: rayStartParams.num-cpus: must be "0", or stages land beside the GCS'
    if head.get("rayStartParams", {}).get("num-gpus") != "0":
        yield f'{name} head: rayStartParams.num-gpus: must be "0", or GPUs that it sees count'
    if "labels" in head.get("rayStartParams", {}):
        yield f"{name} head: rayStartParams.labels: KubeRay takes them from headGroupSpec.labels"


def _upgrade_faults(name: str, spec: Object) -> Iterator[str]:
    strategy = spec.get("upgradeStrategy", {})
    if strategy.get("type") != INCREMENTAL:
        return
    options = strategy.get("clusterUpgradeOptions", {})
    if not spec["rayClusterConfig"].get("enableInTreeAutoscaling"):
        yield f"{name}: upgradeStrategy: {INCREMENTAL} needs enableInTreeAutoscaling"
    for field in ("gatewayClassName", "stepSizePercent", "intervalSeconds"):
        if not options.get(field):
            yield f"{name}: upgradeStrategy.clusterUpgradeOptions.{field}: must be given"
    if options.get("stepSizePercent", 0) > options.get("maxSurgePercent", 100):
        yield f"{name}: upgradeStrategy: stepSizePercent exceeds maxSurgePercent"


def _autoscaler_faults(name: str, cluster: Object) -> Iterator[str]:
    if not cluster.get("enableInTreeAutoscaling"):
        return
    if cluster.get("autoscalerOptions", {}).get("version") != "v2":
        yield f"{name}: autoscalerOptions.version: must be v2, which knows of labels"
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        policy = group["template"]["spec"].get("restartPolicy", "Never")
        if policy != "Never":
            yield f"{name}: restartPolicy {policy}: autoscaler v2 wants Never or none"


def _kueue_faults(service: Object) -> Iterator[str]:
    labels = service["metadata"].get("labels", {})
    elastic = service["metadata"].get("annotations", {}).get(_KUEUE_ELASTIC) == "true"
    scales = service["spec"]["rayClusterConfig"].get("enableInTreeAutoscaling")
    if _KUEUE_QUEUE in labels and scales and not elastic:
        yield f"{title(service)}: Kueue admits an autoscaled cluster only with {_KUEUE_ELASTIC}"


def _group_faults(name: str, group: Object) -> Iterator[str]:
    low, high = group.get("minReplicas"), group.get("maxReplicas")
    if low is None or high is None:
        yield f"{name}: give minReplicas and maxReplicas"
    elif not low <= group.get("replicas", low) <= high:
        yield f"{name}: replicas must lie between minReplicas {low} and maxReplicas {high}"
    if "labels" in group.get("rayStartParams", {}):
        yield f"{name}: rayStartParams.labels: KubeRay takes them from the group's labels"


def _longest_clips_s(manifests: Manifests) -> list[float]:
    arguments = builder_arguments(manifests)
    stages = [a.longest_clip_s for a in arguments if isinstance(a, PipelineConfig)]
    return [*stages, *(a.drain_timeout_s for a in arguments if isinstance(a, GatewayConfig))]


def _grace_faults(pods: Pods, longest_s: float) -> Iterator[str]:
    grace_s = pods.spec.get("terminationGracePeriodSeconds", 30)
    if pods.is_ray_worker and grace_s <= longest_s:
        yield (
            f"{pods.owner}: terminationGracePeriodSeconds {grace_s}: must exceed the longest "
            f"clip's {longest_s:g} s (pipeline.longest_clip_s, gateway.drain_timeout_s)"
        )
