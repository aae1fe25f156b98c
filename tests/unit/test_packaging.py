"""The generic package names must mean this project's folders, and nobody else's."""

import ast
import importlib
import importlib.metadata
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("model", "monitoring", "cluster", "deployments", "autoscaling", "lingbot_serve")
DISTRIBUTION = "lingbot-serve"


def installed() -> bool:
    """Whether `make install` ran in this environment."""
    return any(True for _ in importlib.metadata.distributions(name=DISTRIBUTION))


needs_install = pytest.mark.skipif(not installed(), reason="lingbot-serve runs from its folder")


@pytest.mark.parametrize("name", PACKAGES)
def test_package_comes_from_this_tree(name: str) -> None:
    location = importlib.import_module(name).__file__
    assert location is not None
    assert Path(location).resolve().parent == ROOT / name


@pytest.mark.parametrize("name", PACKAGES)
def test_every_folder_with_code_is_a_package(name: str) -> None:
    """The wheel leaves out the others: it is made of packages."""
    folders = {path.parent for path in (ROOT / name).rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


@needs_install
@pytest.mark.parametrize("name", PACKAGES)
def test_no_other_distribution_owns_the_name(name: str) -> None:
    assert set(importlib.metadata.packages_distributions()[name]) == {DISTRIBUTION}


@needs_install
def test_every_imported_distribution_is_declared() -> None:
    required = importlib.metadata.requires(DISTRIBUTION) or []
    declared = {normalise(line) for line in required if 'extra == "dev"' not in line}
    owners = importlib.metadata.packages_distributions()
    undeclared = {
        module: owners.get(module)
        for module in third_party_imports()
        if not declared & {normalise(owner) for owner in owners.get(module, [module])}
    }
    assert undeclared == {}


def test_every_distribution_is_pinned_once_per_python() -> None:
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    keys = [(normalise(pin), pin.partition(";")[2].strip()) for pin in pins]
    assert len(keys) == len(set(keys))
    conditional = {name for name, marker in keys if marker}
    assert not conditional & {name for name, marker in keys if not marker}
    assert "torch==2.13.0" in pins


def normalise(requirement: str) -> str:
    """The canonical name at the start of a requirement."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name is not None, requirement
    return re.sub(r"[-_.]+", "-", name.group()).lower()


def third_party_imports() -> set[str]:
    """Top-level modules that the packages import and neither they nor Python bring."""
    modules: set[str] = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    modules |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    modules.add(node.module.partition(".")[0])
    return modules - sys.stdlib_module_names - set(PACKAGES)
