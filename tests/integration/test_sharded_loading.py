"""Ranks that load a sharded module together: each reads its own rows from disk."""

import os
import subprocess
import sys
from pathlib import Path

from model.checkpoint.layout import CheckpointPaths

ROOT = Path(__file__).parents[2]


def test_three_ranks_read_their_rows_only_and_encode_like_one(
    synthetic_checkpoint: CheckpointPaths, tmp_path: Path
) -> None:
    script = ROOT / "tests" / "support" / "sharded_text_encoder.py"
    arguments = [str(synthetic_checkpoint.root), str(tmp_path / "rendezvous"), "3"]
    ranks = [
        subprocess.Popen(
            [sys.executable, str(script), *arguments, str(rank)],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
                "OMP_NUM_THREADS": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(3)
    ]
    outputs = [rank.communicate(timeout=120)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0, 0], "\n".join(outputs)
