"""What must not lie just anywhere: the jobs of SQLite, and Ray's objects."""

from collections.abc import Iterator

from sqlalchemy.engine import make_url

from deployments.gateway_config import GatewayConfig
from k8s.validate.manifests import HEAD, Manifests, Object, Pods, title
from k8s.validate.serve_config import builder_arguments, may_run, mount_over

_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_OBJECT_STORE = "object-store-memory"


def check_storage(manifests: Manifests) -> Iterator[str]:
    """Databases on shared volumes, and object stores that /dev/shm cannot hold."""
    for arguments in builder_arguments(manifests):
        if isinstance(arguments, GatewayConfig) and (file := _sqlite_file(arguments)):
            for pods in may_run(arguments.label_selector, manifests):
                yield from _sqlite_faults(file, pods, manifests)
    for service in manifests.of("RayService"):
        cluster = service["spec"]["rayClusterConfig"]
        for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
            name = f"{title(service)} {group.get('groupName', HEAD)}"
            yield from _object_store_faults(name, group)


def _sqlite_file(config: GatewayConfig) -> str | None:
    """The database's file; None where it is a server's."""
    if config.database_url_file is not None:
        return None
    if config.database_url is None:
        return str(config.data_dir / "jobs.sqlite")
    url = make_url(config.database_url)
    return url.database if url.get_backend_name() == "sqlite" else None


def _sqlite_faults(file: str, pods: Pods, manifests: Manifests) -> Iterator[str]:
    claim = _claim(pods.spec, file)
    for item in manifests.of("PersistentVolumeClaim"):
        shared = "ReadWriteMany" in item["spec"]["accessModes"]
        if item["metadata"]["name"] == claim and shared:
            yield (
                f"{pods.owner}: SQLite's {file} lies on the ReadWriteMany claim {claim}, and its "
                "log works over no network file system: ReadWriteOnce, or PostgreSQL"
            )


def _claim(spec: Object, path: str) -> str | None:
    volume = _volume(spec, path)
    name = volume.get("persistentVolumeClaim", {}).get("claimName")
    return None if name is None else str(name)


def _volume(spec: Object, path: str) -> Object:
    mount = mount_over(spec, path) or {}
    volumes: list[Object] = spec.get("volumes", [])
    return next((v for v in volumes if v["name"] == mount.get("name")), {})


def _object_store_faults(name: str, group: Object) -> Iterator[str]:
    size = group.get("rayStartParams", {}).get(_OBJECT_STORE)
    limit = _volume(group["template"]["spec"], "/dev/shm").get("emptyDir", {}).get("sizeLimit")
    if size is None:
        yield f"{name}: rayStartParams.{_OBJECT_STORE}: Ray's default may exceed /dev/shm"
    elif limit is not None and int(size) >= _bytes(limit):
        yield f"{name}: rayStartParams.{_OBJECT_STORE}: /dev/shm has only {limit}"


def _bytes(quantity: str) -> int:
    number, unit = quantity[:-2], quantity[-2:]
    return int(number) * _UNITS[unit] if unit in _UNITS else int(quantity)
