"""Sizes read from checkpoints, and layouts that lack something."""

import shutil

import pytest

from model.checkpoint.layout import Layout, locate_checkpoint
from model.config import DiTConfig, read_dit_config
from model.errors import CheckpointError, ConfigurationError


def test_sizes_of_the_golden_checkpoint(golden):
    config = read_dit_config(locate_checkpoint(golden / "checkpoint"))
    assert config == DiTConfig(
        dim=64, ffn_dim=128, num_heads=8, num_layers=2, text_dim=64, image_dim=None
    )


def test_defaults_are_the_published_model():
    config = DiTConfig()
    assert (config.dim, config.num_heads, config.head_dim, config.num_layers) == (5120, 40, 128, 40)


def test_every_missing_part_is_listed(golden, tmp_path):
    root = tmp_path / "checkpoint"
    shutil.copytree(golden / "checkpoint", root)
    (root / "Wan2.1_VAE.pth").unlink()
    (root / "low_noise_model/config.json").unlink()
    (root / "google/umt5-xxl/tokenizer.json").unlink()
    with pytest.raises(CheckpointError) as error:
        locate_checkpoint(root)
    for name in ("Wan2.1_VAE.pth", "low_noise_model/config.json", "google/umt5-xxl/tokenizer.json"):
        assert name in str(error.value)


def test_layout_is_told_by_the_model_index(golden, tmp_path):
    assert locate_checkpoint(golden / "checkpoint").layout is Layout.PUBLISHED
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(CheckpointError, match="diffusers layout"):
        locate_checkpoint(tmp_path)


@pytest.mark.parametrize("degree", [0, 3, 16])
def test_a_degree_that_does_not_divide_the_heads_is_refused(degree):
    with pytest.raises(ConfigurationError, match="choose one of 1, 2, 4, 5, 8, 10, 20, 40"):
        DiTConfig().check_ulysses_degree(degree)
