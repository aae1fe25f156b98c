"""A checkpoint that does not fit is told apart before anything loads it."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model.checkpoint.layout import CheckpointPaths, locate_checkpoint
from model.errors import CheckpointError
from model.verify import verify_weights

EXPERT = "low_noise_model/diffusion_pytorch_model.safetensors"
T5 = "models_t5_umt5-xxl-enc-bf16.pth"


def test_good_checkpoints_pass(golden: Path, synthetic_checkpoint: CheckpointPaths) -> None:
    verify_weights(locate_checkpoint(golden / "checkpoint"))
    verify_weights(synthetic_checkpoint)


def test_faults_of_several_files_are_told_at_once(
    synthetic_checkpoint: CheckpointPaths, tmp_path: Path
) -> None:
    root = tmp_path / "checkpoint"
    shutil.copytree(synthetic_checkpoint.root, root)
    expert = load_file(root / EXPERT)
    expert["head.head.bias"] = torch.zeros(3)
    expert["stranger.weight"] = torch.zeros(1)
    del expert["blocks.1.cross_attn.k_img.weight"]
    save_file(expert, root / EXPERT)
    text_encoder = torch.load(root / T5, weights_only=True)
    del text_encoder["norm.weight"]
    torch.save(text_encoder, root / T5)
    with pytest.raises(CheckpointError) as error:
        verify_weights(locate_checkpoint(root))
    for fault in (
        "missing: norm.weight",
        "missing: blocks.1.cross_attn.k_img.weight",
        "unknown: stranger.weight",
        "head.head.bias [3], expected [64]",
    ):
        assert fault in str(error.value)
