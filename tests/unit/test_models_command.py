"""`lingbot-serve models` as the shell sees it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from lingbot_serve.cli import app
from model.checkpoint.layout import CheckpointPaths
from tests.support.hub import COMMIT, LocalHub, serving

REPO = "someone/tiny"
NAME = "tiny"


@pytest.fixture
def hub(synthetic_checkpoint: CheckpointPaths) -> Iterator[LocalHub]:
    """A hub that has the tiny checkpoint."""
    root = synthetic_checkpoint.root
    paths = [path for path in root.rglob("*") if path.is_file()]
    with serving(LocalHub(REPO, {str(p.relative_to(root)): p.read_bytes() for p in paths})) as hub:
        yield hub


def models(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["models", *arguments])


def pull(hub: LocalHub, folder: Path, *more: str) -> Result:
    where = ("--endpoint", hub.url, "--models-dir", str(folder))
    return models("pull", "--repo", REPO, *where, *more)


def test_pull_ls_and_verify(hub: LocalHub, tmp_path: Path) -> None:
    pulled = pull(hub, tmp_path, "--json")
    assert pulled.exit_code == 0, pulled.output
    told = json.loads(pulled.stdout)
    assert (told["folder"], told["revision"]) == (str(tmp_path / NAME), COMMIT)
    (entry,) = json.loads(models("ls", "--models-dir", str(tmp_path), "--json").stdout)
    assert (entry["name"], entry["state"], entry["revision"]) == (NAME, "complete", COMMIT)
    assert entry["num_bytes"] == sum(map(len, hub.files.values()))
    verified = models("verify", NAME, "--models-dir", str(tmp_path))
    assert verified.exit_code == 0, verified.output
    assert "all as they should be" in verified.stdout


def test_verify_names_what_differs_and_the_remedy(hub: LocalHub, tmp_path: Path) -> None:
    assert pull(hub, tmp_path).exit_code == 0
    weights = tmp_path / NAME / "Wan2.1_VAE.pth"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    (tmp_path / NAME / "high_noise_model" / "config.json").unlink()
    wrong = models("verify", str(tmp_path / NAME))
    assert wrong.exit_code == 1
    assert "Wan2.1_VAE.pth: SHA-256" in wrong.stderr
    assert "high_noise_model/config.json: missing" in wrong.stderr
    assert "pull again" in wrong.stderr
    assert "incomplete" in models("ls", "--models-dir", str(tmp_path)).stdout
    weights.unlink()
    hub.bytes_sent.clear()
    assert pull(hub, tmp_path).exit_code == 0
    assert set(hub.bytes_sent) == {"Wan2.1_VAE.pth", "high_noise_model/config.json"}
    assert models("verify", str(tmp_path / NAME)).exit_code == 0


def test_verify_holds_keys_and_shapes_against_the_models(hub: LocalHub, tmp_path: Path) -> None:
    del hub.files["Wan2.1_VAE.pth"]
    assert pull(hub, tmp_path).exit_code == 0
    incomplete = models("verify", NAME, "--models-dir", str(tmp_path))
    assert incomplete.exit_code == 2
    assert "Wan2.1_VAE.pth" in incomplete.stderr
    assert models("verify", NAME, "--models-dir", str(tmp_path), "--skip-model").exit_code == 0


def test_too_little_room_is_said_before_anything_is_transferred(
    hub: LocalHub, tmp_path: Path
) -> None:
    hub.sizes["Wan2.1_VAE.pth"] = 10**18
    refused = pull(hub, tmp_path)
    assert refused.exit_code == 1
    assert "1000000000.0 GB more" in refused.stderr
    assert "--models-dir" in refused.stderr
    assert hub.bytes_sent.total() == 0


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["pull", "no-such-model"], 2, "known are lingbot-world-base-cam"),
        (["pull"], 2, "--repo OWNER/NAME"),
        (["pull", "..", "--repo", "a/b"], 2, "cannot name a folder"),
        (["verify", "absent"], 2, "there is no checkpoint"),
        (["pull", "lingbot-world-base-cam", "--endpoint", "http://127.0.0.1:9"], 3, "not answer"),
    ],
)
def test_mistakes_are_explained(
    arguments: list[str], code: int, problem: str, tmp_path: Path
) -> None:
    result = models(*arguments, "--models-dir", str(tmp_path))
    assert result.exit_code == code
    assert problem in result.stderr


def test_a_folder_without_a_manifest_is_listed_as_that(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "weights").write_bytes(b"1234")
    listed = models("ls", "--models-dir", str(tmp_path)).stdout
    assert "own" in listed
    assert "no manifest" in listed
    assert json.loads(models("ls", "--models-dir", str(tmp_path / "none"), "--json").stdout) == []
