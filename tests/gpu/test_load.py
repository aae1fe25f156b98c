"""Weights straight from files to a GPU."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model.checkpoint.staging import BUFFER_BYTES, NUM_READERS, copy_from_files
from model.checkpoint.tensors import SafetensorsSource

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
GIB = 2**30


def _resident_bytes() -> int:
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("RssAnon:") + 1]) * 1024


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_files_arrive_whole_with_bounded_host_memory(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {f"w{i}": torch.randn(2**14, 2**14, device="cuda").bfloat16() for i in range(6)}
    path = tmp_path / "t.safetensors"
    save_file({key: value.cpu() for key, value in tensors.items()}, path)
    assert os.stat(path).st_size > 3 * GIB
    source = SafetensorsSource("t", dict.fromkeys(tensors, path))
    targets = {k: torch.empty(v.shape, device="cuda", dtype=dtype) for k, v in tensors.items()}
    parts = []
    for key, target in targets.items():
        part = source.locate(key)
        assert part is not None
        parts.append((part, target))
    before, peak = _resident_bytes(), 0
    for _ in copy_from_files(parts):
        peak = max(peak, _resident_bytes())
    assert peak - before < 2 * NUM_READERS * BUFFER_BYTES + GIB
    assert all(torch.equal(targets[key], value.to(dtype)) for key, value in tensors.items())
