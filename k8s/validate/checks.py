"""All checks of one overlay."""

from collections.abc import Iterator

from k8s.validate.capacity import check_capacity
from k8s.validate.external import External
from k8s.validate.manifests import Manifests
from k8s.validate.network import check_network
from k8s.validate.operators import check_operators
from k8s.validate.pods import check_pods
from k8s.validate.references import check_references
from k8s.validate.schemas import CustomResources, check_schemas
from k8s.validate.serve_config import check_serve_config
from k8s.validate.storage import check_storage


def faults(manifests: Manifests, custom: CustomResources, external: External) -> Iterator[str]:
    """Everything that is wrong with an overlay."""
    yield from check_schemas(manifests, custom)
    yield from check_serve_config(manifests)
    yield from check_references(manifests, external)
    yield from check_network(manifests)
    yield from check_pods(manifests)
    yield from check_operators(manifests)
    yield from check_capacity(manifests)
    yield from check_storage(manifests)
