"""Weights of strangers: nothing in them runs, and a manifest tells what is not what was pulled."""

import ast
import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from deployments.app import build_pipeline, check_checkpoint
from deployments.pipeline_config import PipelineConfig
from model.checkpoint.layout import CheckpointPaths
from model.checkpoint.manifest import MANIFEST, ManifestCheck, check_manifest, sha256_of
from model.checkpoint.tensors import PickleSource
from model.errors import CheckpointError

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("model", "cluster", "deployments", "autoscaling", "lingbot_serve", "monitoring")


class Attack:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("modern", [True, False])
def test_weights_that_run_code_are_refused(tmp_path: Path, modern: bool) -> None:
    target, file = tmp_path / "owned", tmp_path / "weights.pth"
    content = {"weight": torch.zeros(2), "more": Attack(target)}
    torch.save(content, file, _use_new_zipfile_serialization=modern)
    with pytest.raises(CheckpointError, match="plain tensors"):
        PickleSource(file)
    assert not target.exists()
    with file.open("rb"):
        torch.load(file, weights_only=False)
    assert target.exists()  # so the file would have done it


def test_plain_pickles_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(pickle.dumps(Attack(tmp_path / "owned")))
    with pytest.raises(CheckpointError):
        PickleSource(file)
    assert not (tmp_path / "owned").exists()


def test_a_checkpoint_with_such_a_part_is_refused_before_the_start(
    synthetic_checkpoint: CheckpointPaths, tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(synthetic_checkpoint.root, folder)
    pickles = sorted(folder.rglob("*.pth"))
    assert pickles
    for number, path in enumerate(pickles):
        torch.save({"weight": Attack(tmp_path / f"owned{number}")}, path)
    with pytest.raises(CheckpointError, match="plain tensors"):
        build_pipeline(PipelineConfig(checkpoint=folder))
    assert list(tmp_path.glob("owned*")) == []


def calls(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]


def test_every_load_is_one_of_weights_only() -> None:
    loads = [
        (path, {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords})
        for folder in SHIPPED
        for path in (ROOT / folder).rglob("*.py")
        for call in calls(path)
        if ast.unparse(call.func) in ("torch.load", "torch.serialization.load")
    ]
    assert loads
    assert [path for path, given in loads if given.get("weights_only") != "True"] == []


def test_nothing_else_unpickles_files_or_trusts_remote_code() -> None:
    wanted = ("pickle.load", "pickle.loads", "cloudpickle.load", "cloudpickle.loads", "joblib.load")
    for folder in SHIPPED:
        for path in (ROOT / folder).rglob("*.py"):
            for call in calls(path):
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
                assert ast.unparse(call.func) not in wanted, path
                assert given.get("trust_remote_code") != "True", path
                assert given.get("allow_pickle") in (None, "False"), path


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A folder with a manifest that is right."""
    (tmp_path / "part").mkdir()
    contents = {"config.json": b"{}", "part/a.safetensors": b"abc"}
    entries = []
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        entry = {"path": name, "size": len(content), "sha256": sha256_of(tmp_path / name)}
        entries.append(entry)
    (tmp_path / MANIFEST).write_text(json.dumps({"files": entries}))
    return tmp_path


@pytest.mark.parametrize("check", ManifestCheck)
def test_a_manifest_that_holds(listed: Path, check: ManifestCheck) -> None:
    (listed / "README.md").write_text("notes beside the weights are nobody's business")
    check_manifest(listed, check)


def refused_by(folder: Path) -> list[str]:
    """The checks that find something wrong with a folder."""
    found = []
    for check in ManifestCheck:
        try:
            check_manifest(folder, check)
        except CheckpointError:
            found.append(check.value)
    return found


def test_a_file_of_another_length(listed: Path) -> None:
    (listed / "part/a.safetensors").write_bytes(b"abcd")
    assert refused_by(listed) == ["sizes", "content"]


def test_a_file_that_is_gone(listed: Path) -> None:
    (listed / "config.json").unlink()
    assert refused_by(listed) == ["sizes", "content"]


def test_a_file_of_the_same_length(listed: Path) -> None:
    (listed / "part/a.safetensors").write_bytes(b"abd")
    assert refused_by(listed) == ["content"]


def test_a_file_that_nobody_listed(listed: Path) -> None:
    (listed / "part/b.pth").write_bytes(b"")
    assert refused_by(listed) == ["content"]


def test_no_manifest(listed: Path) -> None:
    (listed / MANIFEST).unlink()
    assert refused_by(listed) == ["content"]


@pytest.mark.parametrize("text", ["", "[]", '{"files": [{"path": 1}]}', "{}"])
def test_a_manifest_that_is_none(listed: Path, text: str) -> None:
    (listed / MANIFEST).write_text(text)
    assert refused_by(listed) == ["sizes", "content"]


def test_the_service_does_not_start_with_weights_that_differ(
    synthetic_checkpoint: CheckpointPaths, tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(synthetic_checkpoint.root, folder)
    entry = {"path": "nothing.safetensors", "size": 1, "sha256": "0" * 64}
    (folder / MANIFEST).write_text(json.dumps({"files": [entry]}))
    with pytest.raises(CheckpointError, match=r"nothing\.safetensors is missing"):
        check_checkpoint(PipelineConfig(checkpoint=folder))
    check_checkpoint(PipelineConfig(checkpoint=folder, manifest=ManifestCheck.OFF))
