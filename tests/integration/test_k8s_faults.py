"""The validator can fail: a broken variant for each thing that it checks, and the words it uses."""

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import yaml

from k8s.validate.capacity import check_capacity
from k8s.validate.checks import faults
from k8s.validate.external import External
from k8s.validate.manifests import Manifests
from k8s.validate.network import check_network
from k8s.validate.operators import check_operators
from k8s.validate.pods import check_pods
from k8s.validate.references import check_references
from k8s.validate.schemas import CustomResources, check_schemas
from k8s.validate.serve_config import check_serve_config
from k8s.validate.storage import check_storage
from tests.support.overlays import CRDS, custom_resources, needs_kubectl, overlay

REMOVE = object()

pytestmark = needs_kubectl


def broken(name: str, target: str, path: str, value: object) -> Manifests:
    """An overlay with one value changed."""
    objects = copy.deepcopy(overlay(name).objects)
    kind, _, wanted = target.partition("/")
    [item] = [o for o in objects if o["kind"] == kind and o["metadata"]["name"] == wanted]
    put(item, path, value)
    return Manifests(name, objects)


def put(item: Any, path: str, value: object) -> None:
    # A tilde stands for a slash in a key.
    keys = [key.replace("~", "/") for key in path.split("/")]
    *parents, last = [int(key) if key.isdigit() else key for key in keys]
    for key in parents:
        item = item[key]
    if value is REMOVE:
        del item[last]
    elif isinstance(item, list) and last == len(item):
        item.append(value)
    else:
        item[last] = value


Check = Callable[[Manifests], Iterable[str]]
Variant = tuple[str, str, str, object, str]

SERVICE = "RayService/lingbot-world"
CLUSTER = "spec/rayClusterConfig"
HEAD = f"{CLUSTER}/headGroupSpec/template/spec"
GANGS = f"{CLUSTER}/workerGroupSpecs/0/template/spec"
WORKER = f"{GANGS}/containers/0"
STAGES = f"{CLUSTER}/workerGroupSpecs/1/template/spec"
OBJECT_STORE = f"{CLUSTER}/headGroupSpec/rayStartParams/object-store-memory"
BACKEND = "spec/rules/0/http/paths/0/backend/service"
DOOR = "NetworkPolicy/lingbot-ray"
PIPELINE, GATEWAY = "applications/0", "applications/1"


def check_schemas_alone(manifests: Manifests) -> Iterator[str]:
    return check_schemas(manifests, CustomResources({}))


def check_references_alone(manifests: Manifests) -> Iterator[str]:
    return check_references(manifests, External.read())


SCHEMAS: list[Variant] = [
    ("one-node", "Job/lingbot-weights", "spec/backoffLimit", "many", "backoffLimit"),
    ("one-node", "Job/lingbot-weights", "spec/retries", 3, "retries"),
    ("one-node", SERVICE, f"{WORKER}/readinessProb", {}, "readinessProb"),
    ("one-node", DOOR, "apiVersion", "networking.k8s.io/v1beta1", "knows no NetworkPolicy"),
    ("many-gangs", "StatefulSet/lingbot-redis", "spec/template/spec/containers/0/port", 1, "port"),
]
SERVE_CONFIG: list[Variant] = [
    ("one-node", SERVICE, "spec/serveConfigV2", "applications: [{name: a}]", "Serve refuses it"),
    ("one-node", SERVICE, "spec/serveConfigV2", "", "has no serveConfigV2"),
    ("one-node", SERVICE, f"{HEAD}/containers/0/ports/3/containerPort", 8001, "listens on 8000"),
    ("one-node", SERVICE, f"{HEAD}/containers/0/volumeMounts/3", REMOVE, "checkpoint"),
    ("one-node", SERVICE, f"{WORKER}/volumeMounts/4/readOnly", True, "data_dir"),
    ("one-node", SERVICE, f"{HEAD}/initContainers/0/args/0", "/models/x/m.json", "waits for other"),
    (
        "one-node",
        "Job/lingbot-weights",
        "spec/template/spec/containers/0/args/6",
        "--to=/models/act",
        "brings other weights",
    ),
]
REFERENCES: list[Variant] = [
    ("one-node", SERVICE, f"{CLUSTER}/authOptions/secretName", "tokens", "no Secret tokens"),
    ("one-node", SERVICE, f"{GANGS}/volumes/4/persistentVolumeClaim/claimName", "x", "Claim x"),
    ("one-node", SERVICE, f"{GANGS}/serviceAccountName", "root", "no ServiceAccount root"),
    ("one-node", SERVICE, f"{GANGS}/priorityClassName", "high", "no PriorityClass high"),
    ("one-node", SERVICE, f"{GANGS}/volumes/1", REMOVE, "mounts tmp, no such volume"),
    (
        "one-node",
        SERVICE,
        f"{WORKER}/env/0",
        {"name": "A", "valueFrom": {"secretKeyRef": {"name": "lingbot-hub", "key": "password"}}},
        "lingbot-hub has no password",
    ),
    (
        "many-gangs",
        SERVICE,
        f"{CLUSTER}/gcsFaultToleranceOptions/redisAddress",
        "redis://cache:6379",
        "no Service cache",
    ),
    (
        "many-gangs",
        SERVICE,
        f"{CLUSTER}/gcsFaultToleranceOptions/redisPassword/valueFrom/secretKeyRef/key",
        "pass",
        "lingbot-redis has no pass",
    ),
    ("many-gangs", SERVICE, f"{STAGES}/volumes/5/secret/items/0/key", "dsn", "has no dsn"),
    ("many-gangs", "PersistentVolumeClaim/lingbot-models", "spec/storageClassName", "s3", "s3"),
    (
        "many-gangs",
        SERVICE,
        f"{STAGES}/containers/0/env/1/valueFrom/secretKeyRef/key",
        "user",
        "has no user",
    ),
    ("air-gapped", "ServiceAccount/lingbot-worker", "imagePullSecrets/0/name", "y", "Secret y"),
    ("air-gapped", "Ingress/lingbot", "spec/tls/0/secretName", "cert", "no Secret cert"),
    ("shared-cluster", SERVICE, "metadata/labels/kueue.x-k8s.io~queue-name", "q", "LocalQueue q"),
    ("shared-cluster", "HTTPRoute/lingbot", "spec/parentRefs/0/name", "front", "Gateway front"),
]
NETWORK: list[Variant] = [
    (
        "one-node",
        DOOR,
        "spec/podSelector/matchLabels/app.kubernetes.io~name",
        "x",
        "matches no pod",
    ),
    (
        "one-node",
        "PodDisruptionBudget/lingbot-gangs",
        "spec/selector/matchLabels/app.kubernetes.io~component",
        "gang",
        "matches no pod",
    ),
    ("one-node", DOOR, "spec/ingress/1/ports/1", {"port": 8265}, "opens port 8265"),
    ("one-node", DOOR, "spec/ingress/1/ports", REMOVE, "opens every port"),
    ("one-node", DOOR, "spec/ingress/1/ports/0/port", "dashboard", "others than kuberay-operator"),
    ("one-node", SERVICE, f"{WORKER}/ports/0/name", "stats", "no port"),
    ("one-node", "NetworkPolicy/lingbot-deny-all", "spec/ingress", [{}], "none denies"),
    ("many-gangs", "Service/lingbot-redis", "spec/ports/0/targetPort", "6380", "no port 6380"),
    ("many-gangs", "Service/lingbot-redis", "spec/selector", {"app": "redis"}, "matches no pod"),
    (
        "many-gangs",
        "NetworkPolicy/lingbot-redis",
        "spec/ingress/0/from",
        REMOVE,
        "opens port redis",
    ),
    ("air-gapped", "Ingress/lingbot", f"{BACKEND}/name", "serve-svc", "service serve-svc"),
    ("shared-cluster", "HTTPRoute/lingbot", "spec/rules/0/backendRefs/0/name", "x", "service x"),
    ("many-gangs", "PodMonitor/lingbot-gateway", "spec/podMetricsEndpoints/0/port", "web", "web"),
    ("many-gangs", "PodMonitor/lingbot-ray", "spec/selector/matchLabels", {"a": "b"}, "no pod"),
    (
        "many-gangs",
        "CronJob/lingbot-canary",
        "spec/jobTemplate/spec/template/spec/containers/0/args/1",
        "http://lingbot-world-serve-svc:8000",
        "sends to service lingbot-world-serve-svc",
    ),
    ("shared-cluster", "Gateway/lingbot", "metadata/name", "front", "matches no pod"),
    (
        "many-gangs",
        "NetworkPolicy/lingbot-upgrade-gateway",
        "spec/ingress/0/from",
        REMOVE,
        "every path to everybody",
    ),
    (
        "many-gangs",
        "NetworkPolicy/lingbot-upgrade-gateway",
        "spec/ingress/0/from/0",
        {"namespaceSelector": {}},
        "every path to everybody",
    ),
    ("many-gangs", "Ingress/lingbot", f"{BACKEND}/name", "lingbot-world-serve-svc", "sends to"),
]
PODS: list[Variant] = [
    ("one-node", SERVICE, f"{GANGS}/securityContext/runAsNonRoot", False, "runAsNonRoot"),
    ("one-node", SERVICE, f"{GANGS}/securityContext/seccompProfile", REMOVE, "seccompProfile"),
    ("one-node", SERVICE, f"{GANGS}/automountServiceAccountToken", True, "nothing in it needs one"),
    ("one-node", SERVICE, f"{WORKER}/securityContext/privileged", True, "privileged unset"),
    (
        "one-node",
        SERVICE,
        f"{WORKER}/securityContext/readOnlyRootFilesystem",
        False,
        "readOnlyRootFilesystem",
    ),
    (
        "one-node",
        SERVICE,
        f"{WORKER}/securityContext/capabilities",
        {"drop": ["ALL"], "add": ["IPC_LOCK"]},
        "IPC_LOCK",
    ),
    ("one-node", SERVICE, f"{GANGS}/hostNetwork", True, "hostNetwork"),
    ("one-node", SERVICE, f"{GANGS}/volumes/2/emptyDir", {}, "sizeLimit"),
    ("one-node", SERVICE, f"{GANGS}/volumes/0/emptyDir/medium", REMOVE, "medium Memory"),
    ("one-node", SERVICE, f"{WORKER}/volumeMounts/3/readOnly", REMOVE, "/models"),
    ("one-node", SERVICE, f"{WORKER}/resources/limits/memory", REMOVE, "resources.limits"),
    ("one-node", SERVICE, f"{WORKER}/image", "lingbot-serve:latest", "pin a version"),
    ("one-node", SERVICE, f"{WORKER}/readinessProbe", REMOVE, "/readyz"),
    ("one-node", SERVICE, f"{WORKER}/lifecycle", REMOVE, "ray drain-node"),
    (
        "many-gangs",
        "PodDisruptionBudget/lingbot-stages",
        "spec/selector/matchLabels/app.kubernetes.io~component",
        "gangs",
        "stages: no PodDisruptionBudget",
    ),
    ("many-gangs", SERVICE, f"{HEAD}/automountServiceAccountToken", False, "autoscaler needs it"),
    (
        "many-gangs",
        SERVICE,
        f"{CLUSTER}/autoscalerOptions/securityContext",
        {},
        "autoscaler: securityContext.readOnlyRootFilesystem",
    ),
]
OPERATORS: list[Variant] = [
    ("one-node", SERVICE, f"{CLUSTER}/rayVersion", "2.9.0", "rayVersion"),
    ("one-node", SERVICE, f"{CLUSTER}/authOptions/mode", "disabled", "authOptions.mode"),
    ("one-node", SERVICE, f"{CLUSTER}/headGroupSpec/rayStartParams", {}, "num-cpus"),
    ("one-node", SERVICE, f"{CLUSTER}/headGroupSpec/rayStartParams/num-gpus", "8", "num-gpus"),
    ("one-node", SERVICE, f"{GANGS}/terminationGracePeriodSeconds", 3600, "must exceed"),
    ("one-node", SERVICE, "spec/rayClusterDeletionDelaySeconds", 60, "would end clips"),
    ("one-node", SERVICE, f"{CLUSTER}/workerGroupSpecs/0/replicas", 2, "between minReplicas"),
    (
        "one-node",
        SERVICE,
        "spec/upgradeStrategy",
        {"type": "NewClusterWithIncrementalUpgrade", "clusterUpgradeOptions": {}},
        "needs enableInTreeAutoscaling",
    ),
    ("many-gangs", SERVICE, f"{CLUSTER}/enableInTreeAutoscaling", False, "needs enableInTree"),
    ("many-gangs", SERVICE, f"{CLUSTER}/autoscalerOptions/version", "v1", "must be v2"),
    ("many-gangs", SERVICE, f"{STAGES}/restartPolicy", "Always", "restartPolicy Always"),
    (
        "many-gangs",
        SERVICE,
        "spec/upgradeStrategy/clusterUpgradeOptions/gatewayClassName",
        "",
        "gatewayClassName",
    ),
    ("many-gangs", SERVICE, "metadata/labels/kueue.x-k8s.io~queue-name", "q", "elastic-job"),
]
CAPACITY: list[Variant] = [
    ("one-node", SERVICE, f"{WORKER}/resources/limits/cpu", "16", "denoiser: a replica reserves"),
    ("one-node", SERVICE, f"{WORKER}/resources/limits/cpu", "36", "at most"),
    ("many-gangs", SERVICE, f"{CLUSTER}/workerGroupSpecs/1/labels", {}, "no worker group has"),
    ("many-gangs", SERVICE, f"{CLUSTER}/workerGroupSpecs/0/maxReplicas", 4, "at most"),
    ("two-hosts", SERVICE, f"{CLUSTER}/workerGroupSpecs/0/numOfHosts", 1, "at most"),
    (
        "many-gangs",
        SERVICE,
        f"{CLUSTER}/workerGroupSpecs/1/minReplicas",
        1,
        "1.2 GPU are always reserved, minReplicas bring 1",
    ),
]
STORAGE: list[Variant] = [
    (
        "one-node",
        "PersistentVolumeClaim/lingbot-data",
        "spec/accessModes",
        ["ReadWriteMany"],
        "ReadWriteMany claim lingbot-data",
    ),
    ("one-node", SERVICE, OBJECT_STORE, "5153960755", "head: rayStartParams.object-store"),
    ("one-node", SERVICE, OBJECT_STORE, REMOVE, "default may exceed"),
    ("many-gangs", SERVICE, f"{STAGES}/volumes/0/emptyDir/sizeLimit", "8Gi", "has only 8Gi"),
]


VARIANTS = [
    *((check_schemas_alone, variant) for variant in SCHEMAS),
    *((check_serve_config, variant) for variant in SERVE_CONFIG),
    *((check_references_alone, variant) for variant in REFERENCES),
    *((check_network, variant) for variant in NETWORK),
    *((check_pods, variant) for variant in PODS),
    *((check_operators, variant) for variant in OPERATORS),
    *((check_capacity, variant) for variant in CAPACITY),
    *((check_storage, variant) for variant in STORAGE),
]


def name_of(value: object) -> str:
    return f"{value[2].rpartition('/')[2]}-{value[4]}" if isinstance(value, tuple) else ""


@pytest.mark.parametrize(("check", "variant"), VARIANTS, ids=name_of)
def test_a_broken_variant_is_named(check: Check, variant: Variant) -> None:
    name, target, path, value, words = variant
    assert not list(check(overlay(name)))
    found = list(check(broken(name, target, path, value)))
    assert any(words in fault for fault in found), found


def change_config(name: str, change: str, value: object) -> Manifests:
    """An overlay whose serveConfigV2 has one value changed."""
    [service] = overlay(name).of("RayService")
    config = yaml.safe_load(service["spec"]["serveConfigV2"])
    put(config, change, value)
    return broken(name, SERVICE, "spec/serveConfigV2", yaml.safe_dump(config))


@pytest.mark.parametrize(
    ("check", "name", "change", "value", "words"),
    [
        (check_serve_config, "one-node", "http_options/host", "127.0.0.1", "0.0.0.0"),
        (check_serve_config, "one-node", f"{PIPELINE}/import_path", "deployments.app:x", "no attr"),
        (check_serve_config, "one-node", f"{PIPELINE}/args/text_encodr", {}, "text_encodr"),
        (check_serve_config, "one-node", f"{PIPELINE}/args/checkpoint", "/w", "on none of its"),
        (check_serve_config, "one-node", f"{GATEWAY}/args/data_dir", "/data", "on none of its"),
        (check_serve_config, "one-node", f"{GATEWAY}/args/auth", {"mode": "auto"}, "auth.mode"),
        (
            check_serve_config,
            "one-node",
            f"{GATEWAY}/args/database_url",
            "postgresql+psycopg://lingbot:secret@db/lingbot",
            "use database_url_file",
        ),
        (
            check_storage,
            "one-node",
            f"{GATEWAY}/args/database_url",
            "sqlite:////models/jobs.sqlite",
            "lingbot-models",
        ),
        (check_capacity, "one-node", f"{PIPELINE}/args/denoiser/gang/size", 16, "no node has it"),
        (
            check_capacity,
            "one-node",
            f"{PIPELINE}/args/vae_decoder/label_selector",
            {"lingbot-pool": "decoders"},
            "no worker group has the labels",
        ),
    ],
)
def test_a_broken_configuration_is_named(
    check: Check, name: str, change: str, value: object, words: str
) -> None:
    found = list(check(change_config(name, change, value)))
    assert any(words in fault for fault in found), found


def test_one_fault_is_enough_to_fail() -> None:
    bad = broken("one-node", SERVICE, f"{GANGS}/hostNetwork", True)
    found = list(faults(bad, custom_resources(), External.read()))
    assert found == ["RayService/lingbot-world gangs: hostNetwork is not allowed"]


@pytest.mark.skipif(not CRDS.is_dir(), reason="no CustomResourceDefinitions: set CRDS")
@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("spec/serveConfig", "x", "serveConfig"),
        (f"{CLUSTER}/workerGroupSpecs/0/maxReplicas", "many", "maxReplicas"),
        (f"{CLUSTER}/authOptions/mode", "tokens", "mode"),
        (f"{CLUSTER}/headGroupSpec/template", REMOVE, "template"),
    ],
)
def test_the_operators_definition_is_applied(path: str, value: object, words: str) -> None:
    objects = copy.deepcopy(overlay("one-node").of("RayService"))
    put(objects[0], path, value)
    found = list(custom_resources().faults(objects[0]))
    assert found
    assert words in found[0]
