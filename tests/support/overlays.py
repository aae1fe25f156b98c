"""The Kubernetes overlays as kubectl renders them."""

import os
import shutil
from functools import cache
from pathlib import Path

import pytest

from k8s.validate.manifests import OVERLAYS, Manifests, render
from k8s.validate.schemas import CustomResources

ROOT = Path(__file__).parents[2]
CRDS = Path(os.environ.get("CRDS", ROOT.parent / "shared/schemas"))

needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl renders overlays"
)


@cache
def overlay(name: str) -> Manifests:
    """One overlay, rendered once."""
    return render(OVERLAYS / name)


@cache
def custom_resources() -> CustomResources:
    """The operators' schemas, where there are any."""
    return CustomResources.read(CRDS) if CRDS.is_dir() else CustomResources({})
