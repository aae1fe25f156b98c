"""Fixtures that every test may use."""

from pathlib import Path

import pytest
import torch

from model.checkpoint.layout import CheckpointPaths, locate_checkpoint
from model.checkpoint.synthetic import TINY, write_synthetic_checkpoint

torch.set_num_threads(1)  # the models are tiny: more threads only wait for each other

GOLDEN = Path(__file__).parent / "golden/base-cam-a"


@pytest.fixture(scope="session")
def golden() -> Path:
    """A miniature checkpoint, one request, and what the published code made of both."""
    return GOLDEN


@pytest.fixture(scope="session")
def synthetic_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> CheckpointPaths:
    """A tiny checkpoint of random weights in the published layout, with the image branch."""
    directory = tmp_path_factory.mktemp("synthetic") / "checkpoint"
    write_synthetic_checkpoint(directory, seed=0, size=TINY)
    return locate_checkpoint(directory)
