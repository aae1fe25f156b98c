"""serveConfigV2 as Serve and our builders will read it, and the files that it names."""

import importlib
import inspect
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

import yaml
from pydantic import BaseModel, ValidationError
from ray.serve.schema import ServeDeploySchema
from sqlalchemy.engine import make_url

from deployments.config import explain
from deployments.gateway_config import GatewayConfig
from deployments.keys.settings import AuthMode
from deployments.pipeline_config import PipelineConfig
from k8s.validate.manifests import HEAD, Manifests, Object, Pods, title

_SERVE_PORT = "serve"


def check_serve_config(manifests: Manifests) -> Iterator[str]:
    """Configurations that Serve, a builder or a pod would choke on."""
    for service in manifests.of("RayService"):
        text = service["spec"].get("serveConfigV2")
        if not text:
            yield f"{title(service)}: has no serveConfigV2"
            continue
        raw = yaml.safe_load(text)
        try:
            config = ServeDeploySchema.model_validate(raw)
        except ValidationError as error:
            yield f"{title(service)} serveConfigV2: Serve refuses it: {explain(error)}"
            continue
        yield from _listener_faults(service, raw.get("http_options", {}), manifests)
        for application in config.applications:
            yield from _application_faults(application.import_path, application.args)
    for arguments in builder_arguments(manifests):
        yield from _argument_faults(arguments, manifests)


def builder_arguments(manifests: Manifests) -> list[BaseModel]:
    """The arguments of every builder that takes them, as it takes them."""
    found = []
    for service in manifests.of("RayService"):
        raw = yaml.safe_load(service["spec"].get("serveConfigV2") or "{}") or {}
        for application in raw.get("applications", []):
            try:
                model = _model(application["import_path"])
                found.append(model.model_validate(application.get("args", {})))
            except (ValidationError, ImportError, AttributeError, KeyError):
                continue  # `check_serve_config` says what is wrong with it
    return found


def scaled_replicas(manifests: Manifests) -> dict[str, tuple[int, int]]:
    """Fewest and most replicas of each deployment whose bounds stand beside the arguments."""
    texts = [s["spec"].get("serveConfigV2") or "{}" for s in manifests.of("RayService")]
    applications = [
        a for text in texts for a in (yaml.safe_load(text) or {}).get("applications", [])
    ]
    return {
        deployment["name"]: (bounds.get("min_replicas", 1), bounds["max_replicas"])
        for application in applications
        for deployment in application.get("deployments", [])
        if "max_replicas" in (bounds := deployment.get("autoscaling_config", {}))
    }


def _application_faults(import_path: str, args: Object) -> Iterator[str]:
    try:
        model = _model(import_path)
    except (ImportError, AttributeError) as error:
        yield f"serveConfigV2 {import_path}: {error}"
        return
    try:
        model.model_validate(args)
    except ValidationError as error:
        yield f"serveConfigV2 {import_path}: {explain(error)}"


def _model(import_path: str) -> type[BaseModel]:
    """The model that Serve makes of a builder's arguments: its parameter's annotation."""
    module, _, name = import_path.partition(":")
    builder = getattr(importlib.import_module(module), name)
    [parameter] = inspect.signature(builder).parameters.values()
    model = parameter.annotation
    assert isinstance(model, type) and issubclass(model, BaseModel), import_path
    return model


def _listener_faults(service: Object, http: Object, manifests: Manifests) -> Iterator[str]:
    if http.get("host") != "0.0.0.0":
        yield f"{title(service)} serveConfigV2: http.host must be 0.0.0.0, or no service reaches it"
    # KubeRay makes the service only for a port of this name on the head.
    for pods in manifests.ray_pods():
        if pods.port(_SERVE_PORT) != http.get("port"):
            yield (
                f"{pods.owner}: its port {_SERVE_PORT} is {pods.port(_SERVE_PORT)}, "
                f"serveConfigV2 listens on {http.get('port')}"
            )


def _argument_faults(arguments: BaseModel, manifests: Manifests) -> Iterator[str]:
    if isinstance(arguments, PipelineConfig):
        # Serve builds an application on any node, and the builder reads the checkpoint.
        checkpoint = str(arguments.checkpoint)
        for pods in manifests.ray_pods():
            yield from _path_faults(pods, "checkpoint", checkpoint, writable=False)
        yield from _weights_faults(checkpoint, manifests)
    if isinstance(arguments, GatewayConfig):
        if arguments.auth.mode is AuthMode.AUTO:
            yield "serveConfigV2 gateway.auth.mode: is auto, but others reach it: required or off"
        if arguments.database_url and make_url(arguments.database_url).password:
            yield "serveConfigV2 gateway.database_url: has a password: use database_url_file"
        for pods in may_run(arguments.label_selector, manifests):
            yield from _path_faults(pods, "data_dir", str(arguments.data_dir), writable=True)
            if arguments.database_url_file is not None:
                file = str(arguments.database_url_file)
                yield from _path_faults(pods, "database_url_file", file, writable=False)


def _weights_faults(checkpoint: str, manifests: Manifests) -> Iterator[str]:
    """The Job brings what is served, and the head waits for just that."""
    jobs = [pods for pods in manifests.pods() if pods.owner == "Job/lingbot-weights"]
    heads = [pods for pods in manifests.ray_pods() if pods.group == HEAD]
    for pods in [*jobs, *heads]:
        waits = pods.spec.get("initContainers", []) if pods.group else pods.spec["containers"]
        if not any(checkpoint in word for c in waits for word in c.get("args", [])):
            verb = "waits for" if pods.group else "brings"
            yield f"{pods.owner}: {verb} other weights than pipeline.checkpoint {checkpoint}"


def may_run(selector: Mapping[str, str], manifests: Manifests) -> list[Pods]:
    """Pods that a replica with a selector of plain values can come to."""
    workers = [pods for pods in manifests.ray_pods() if pods.group != HEAD]
    return [p for p in workers if all(p.labels.get(k) == v for k, v in selector.items())]


def mount_over(spec: Object, path: str) -> Object | None:
    """The mount of a pod's first container that a path lies on."""
    mounts = spec["containers"][0].get("volumeMounts", [])
    over = [m for m in mounts if PurePosixPath(path).is_relative_to(m["mountPath"])]
    return max(over, key=lambda m: len(m["mountPath"]), default=None)


def _path_faults(pods: Pods, setting: str, path: str, *, writable: bool) -> Iterator[str]:
    mount = mount_over(pods.spec, path)
    if mount is None:
        yield f"{pods.owner}: {setting} {path} lies on none of its volumes"
    elif writable and mount.get("readOnly"):
        yield f"{pods.owner}: {setting} {path} lies on a volume that is mounted readOnly"
