"""The training of lingbot-world-nano, every command of it, at a size of seconds."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model.checkpoint.layout import locate_checkpoint
from model.checkpoint.vae import open_vae, read_vae_config
from model.errors import CheckpointError, ConfigurationError
from model.nano.__main__ import main
from model.nano.export import export
from model.nano.sizes import TOY


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained for three steps."""
    folder = tmp_path_factory.mktemp("nano")
    data, vae, latents, dit = (folder / name for name in ("data", "vae.pt", "latents", "dit.pt"))
    _run("data", data, "--workers", "2")
    with pytest.raises(SystemExit, match="--resume goes on"):
        _run("vae", data, vae, "--limit-s", "0")
    _run("vae", data, vae, "--resume")
    _run("encode", data, vae, latents)
    _run("dit", latents, dit)
    _run("export", latents, vae, dit, folder / "checkpoint")
    return folder / "checkpoint"


def _run(command: str, *arguments: object) -> None:
    main([command, *map(str, arguments), "--toy", "--device", "cpu"])


def test_what_is_there_already_is_kept(checkpoint: Path) -> None:
    files = [checkpoint.parent / name for name in ("vae.pt", "dit.pt", "latents/00000.safetensors")]
    before = [file.stat().st_mtime_ns for file in files]
    data, vae, latents = (checkpoint.parent / name for name in ("data", "vae.pt", "latents"))
    _run("data", data)
    _run("vae", data, vae, "--resume")
    _run("encode", data, vae, latents)
    _run("dit", latents, checkpoint.parent / "dit.pt", "--resume")
    assert [file.stat().st_mtime_ns for file in files] == before


def test_the_same_seeds_make_the_same_weights(checkpoint: Path, tmp_path: Path) -> None:
    _run("vae", checkpoint.parent / "data", tmp_path / "vae.pt")  # the first was cut off once
    _run("dit", checkpoint.parent / "latents", tmp_path / "dit.pt")
    for file, part in (("vae.pt", "vae"), ("dit.pt", "model")):
        first, again = (
            torch.load(folder / file, weights_only=True)[part]
            for folder in (checkpoint.parent, tmp_path)
        )
        assert all(torch.equal(again[key], value) for key, value in first.items())


def test_clips_of_another_vae_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    other = tmp_path / "vae.pt"
    other.write_bytes(b"another")
    with pytest.raises(ConfigurationError, match="another VAE"):
        _run("encode", checkpoint.parent / "data", other, checkpoint.parent / "latents")


def test_too_large_a_checkpoint_is_not_exported(checkpoint: Path, tmp_path: Path) -> None:
    made = [checkpoint.parent / name for name in ("latents", "vae.pt", "dit.pt")]
    with pytest.raises(CheckpointError, match="more than 1000"):
        export(*made, tmp_path / "large", TOY, most_bytes=1000)
    assert not (tmp_path / "large").exists()


def test_what_is_exported_is_a_published_checkpoint_with_its_own_statistics(
    checkpoint: Path,
) -> None:
    paths = locate_checkpoint(checkpoint)
    statistics = read_vae_config(paths, open_vae(paths))
    stored = torch.load(checkpoint.parent / "vae.pt", weights_only=True)
    assert statistics.latents_mean == pytest.approx(stored["mean"].tolist())
    assert statistics.latents_std == pytest.approx(stored["std"].tolist())


def test_an_evaluation_prints_every_figure_and_the_card_shows_them(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "Not evaluated yet" in (checkpoint / "README.md").read_text()
    capsys.readouterr()
    _run("evaluate", checkpoint, "--seed", "3")
    printed = capsys.readouterr().out
    figures = json.loads(printed)
    assert figures["seed"] == 3
    assert set(figures["signs"]) == {"yaw", "pitch", "forward"}
    for wrong in ("mirrored_yaw", "no_motion", "other_path"):
        assert np.isfinite(figures["camera"][wrong]["margin_db"])
        assert "kept" in figures["longer"][wrong]
    assert figures["finite"] == 1.0
    assert set(figures["text"]) == {"pairs", "share", "median_progress"}
    (tmp_path / "figures.json").write_text(printed)
    _run("card", checkpoint, tmp_path / "figures.json")
    card = (checkpoint / "README.md").read_text()
    assert f"| {figures['camera']['vae_db']} dB |  | 30 dB |" in card
    assert "8 clips" in card


def test_a_sheet_shows_truth_above_and_made_below(checkpoint: Path, tmp_path: Path) -> None:
    _run("sheet", checkpoint, tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (4 * 2 * 32 + 3 * 4, 6 * 48, 3)


# On the machine that trains there may be PyTorch and transformers and not much else.
def test_training_needs_neither_diffusers_nor_ftfy_nor_scipy() -> None:
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('diffusers', 'ftfy', 'scipy')))\n"
        "import model.nano.__main__"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
