"""The training of lingbot-world-nano, every command of it, at a size of seconds."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model.checkpoint.layout import locate_checkpoint
from model.checkpoint.vae import open_vae, read_vae_config
from model.nano.__main__ import main


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained for three steps."""
    folder = tmp_path_factory.mktemp("nano")
    data, vae, dit = folder / "data", folder / "vae.pt", folder / "dit.pt"
    main(["data", str(data), "--toy", "--device", "cpu"])
    main(["vae", str(data), str(vae), "--toy", "--device", "cpu"])
    main(["dit", str(data), str(vae), str(dit), "--toy", "--device", "cpu"])
    main(["export", str(data), str(vae), str(dit), str(folder / "checkpoint"), "--toy"])
    return folder / "checkpoint"


def test_what_is_exported_is_a_published_checkpoint_with_its_own_statistics(
    checkpoint: Path,
) -> None:
    paths = locate_checkpoint(checkpoint)
    statistics = read_vae_config(paths, open_vae(paths))
    stored = torch.load(checkpoint.parent / "vae.pt", weights_only=True)
    assert statistics.latents_mean == pytest.approx(stored["mean"].tolist())
    assert statistics.latents_std == pytest.approx(stored["std"].tolist())


def test_an_evaluation_prints_every_figure(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["evaluate", str(checkpoint), "--toy", "--seed", "3", "--device", "cpu"])
    figures = json.loads(capsys.readouterr().out)
    assert figures["seed"] == 3
    assert set(figures["signs"]) == {"yaw", "pitch", "forward"}
    for wrong in ("mirrored_yaw", "no_motion", "other_path"):
        assert np.isfinite(figures["camera"][wrong]["margin_db"])
        assert wrong in figures["longer"]["share_of_margin"]
    assert {"pairs", "share", "median_progress"} == set(figures["text"])


def test_a_sheet_shows_truth_above_and_made_below(checkpoint: Path, tmp_path: Path) -> None:
    main(["sheet", str(checkpoint), str(tmp_path / "sheet.png"), "--toy", "--device", "cpu"])
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (4 * 2 * 32 + 3 * 4, 6 * 48, 3)
