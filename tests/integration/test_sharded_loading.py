"""Ranks that load a sharded module together."""

from pathlib import Path

from model.checkpoint.layout import CheckpointPaths
from tests.support.loading_ranks import run_everywhere


def test_three_ranks_read_their_rows_only_and_encode_like_one(
    synthetic_checkpoint: CheckpointPaths, tmp_path: Path
) -> None:
    run_everywhere(synthetic_checkpoint.root, tmp_path, size=3)
