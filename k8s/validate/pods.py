"""What each pod may do, how much it may take, and how it comes and goes."""

from collections.abc import Iterator

from k8s.validate.manifests import HEAD, Manifests, Object, Pods, selects


def check_pods(manifests: Manifests) -> Iterator[str]:
    """Pods that the restricted standard refuses, or that can starve or surprise their node."""
    for pods in manifests.pods():
        yield from _identity_faults(pods)
        yield from _token_faults(pods, manifests)
        for container in pods.containers:
            name = f"{pods.owner} {container['name']}"
            yield from _privilege_faults(name, container)
            yield from _resource_faults(name, container)
            yield from _image_faults(name, container)
        yield from _volume_faults(pods)
    budgets = [b["spec"].get("selector") for b in manifests.of("PodDisruptionBudget")]
    for pods in manifests.ray_pods():
        yield from _ray_faults(pods)
        if not any(selects(selector, pods.labels) for selector in budgets):
            yield f"{pods.owner}: no PodDisruptionBudget keeps one of them"


def _identity_faults(pods: Pods) -> Iterator[str]:
    context = pods.spec.get("securityContext", {})
    if not context.get("runAsNonRoot") or not context.get("runAsUser"):
        yield f"{pods.owner}: securityContext: set runAsNonRoot and a runAsUser above 0"
    if context.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield f"{pods.owner}: securityContext.seccompProfile.type: must be RuntimeDefault"
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pods.spec.get(field):
            yield f"{pods.owner}: {field} is not allowed"


def _token_faults(pods: Pods, manifests: Manifests) -> Iterator[str]:
    accounts = {a["metadata"]["name"]: a for a in manifests.of("ServiceAccount")}
    account = accounts.get(pods.spec.get("serviceAccountName", ""), {})
    of_account = account.get("automountServiceAccountToken", True)
    mounted = pods.spec.get("automountServiceAccountToken", of_account)
    needed = any(container["name"] == "autoscaler" for container in pods.containers)
    if needed and not mounted:
        yield f"{pods.owner}: automountServiceAccountToken: the autoscaler needs it true"
    if mounted and not needed:
        yield f"{pods.owner}: automountServiceAccountToken: nothing in it needs one; set it false"


def _privilege_faults(name: str, container: Object) -> Iterator[str]:
    context = container.get("securityContext", {})
    if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
        yield f"{name}: securityContext: allowPrivilegeEscalation must be false, privileged unset"
    if not context.get("readOnlyRootFilesystem"):
        yield f"{name}: securityContext.readOnlyRootFilesystem: must be true"
    capabilities = context.get("capabilities", {})
    if capabilities.get("drop") != ["ALL"]:
        yield f"{name}: securityContext.capabilities.drop: must be [ALL]"
    if extra := set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield f"{name}: securityContext.capabilities.add: {sorted(extra)} is not restricted"
    if context.get("runAsUser") == 0 or context.get("runAsNonRoot") is False:
        yield f"{name}: securityContext: must not run as root"


def _resource_faults(name: str, container: Object) -> Iterator[str]:
    resources = container.get("resources", {})
    for side in ("requests", "limits"):
        if missing := {"cpu", "memory"} - set(resources.get(side, {})):
            yield f"{name}: resources.{side}: give {' and '.join(sorted(missing))}"
    gpu = "nvidia.com/gpu"
    if resources.get("requests", {}).get(gpu) != resources.get("limits", {}).get(gpu):
        yield f"{name}: resources: requests and limits of {gpu} must be equal"


def _image_faults(name: str, container: Object) -> Iterator[str]:
    if name.endswith(" autoscaler"):
        return  # KubeRay gives it the head's image
    image = container.get("image", "")
    _, colon, tag = image.rpartition("/")[2].partition(":")
    if "@sha256:" not in image and (not colon or tag == "latest"):
        yield f"{name}: image {image or '(none)'}: pin a version"


def _volume_faults(pods: Pods) -> Iterator[str]:
    for volume in pods.spec.get("volumes", []):
        if "hostPath" in volume:
            yield f"{pods.owner}: volume {volume['name']}: hostPath is not restricted"
        if "emptyDir" in volume and "sizeLimit" not in (volume["emptyDir"] or {}):
            yield f"{pods.owner}: volume {volume['name']}: emptyDir needs a sizeLimit"


def _ray_faults(pods: Pods) -> Iterator[str]:
    container = pods.spec["containers"][0]
    mounts = {mount["mountPath"]: mount for mount in container.get("volumeMounts", [])}
    volumes = {volume["name"]: volume for volume in pods.spec.get("volumes", [])}
    for path in ("/dev/shm", "/tmp"):
        if path not in mounts:
            yield f"{pods.owner}: Ray needs an emptyDir at {path}: the root is read-only"
    shm = volumes.get(mounts.get("/dev/shm", {}).get("name", ""), {})
    if shm and shm.get("emptyDir", {}).get("medium") != "Memory":
        yield f"{pods.owner}: volume {shm['name']}: /dev/shm must have medium Memory"
    if "/models" in mounts and not mounts["/models"].get("readOnly"):
        yield f"{pods.owner}: /models: only the weights Job writes there; mount it readOnly"
    if "priorityClassName" not in pods.spec:
        yield f"{pods.owner}: priorityClassName: batch work could push it out"
    if pods.group != HEAD:
        yield from _worker_faults(pods, container)


def _worker_faults(pods: Pods, container: Object) -> Iterator[str]:
    probe = str(container.get("readinessProbe", ""))
    if "readyz" not in probe:
        yield f"{pods.owner}: readinessProbe: must ask /readyz, which knows of a real step"
    stop = str(container.get("lifecycle", {}).get("preStop", ""))
    if "ray drain-node" not in stop:
        yield f"{pods.owner}: lifecycle.preStop: must empty the node (ray drain-node) first"
