import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from model.checkpoint.load import load_module
from model.checkpoint.staging import copy_from_files
from model.checkpoint.tensors import FileTensors, PickleSource, SafetensorsSource
from model.errors import CheckpointError

CPU = torch.device("cpu")
TENSORS = {
    "matrix": torch.arange(77.0).view(11, 7),
    "half": torch.randn(5, 3).bfloat16(),
    "scalar": torch.tensor(3.5),
    "empty": torch.zeros(0, 4),
}


@pytest.fixture(params=["safetensors", "pickle"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> FileTensors:
    if request.param == "pickle":
        torch.save(TENSORS, tmp_path / "t.pth")
        return PickleSource(tmp_path / "t.pth")
    save_file(TENSORS, tmp_path / "t.safetensors")
    return SafetensorsSource("t", dict.fromkeys(TENSORS, tmp_path / "t.safetensors"))


def _copied(source: FileTensors, key: str, start: int, target: Tensor, **sizes: int) -> Tensor:
    part = source.locate(key, start)
    assert part is not None
    read = sum(copy_from_files([(part, target)], **sizes))
    assert read == target.numel() * part.dtype.itemsize
    return target


@pytest.mark.parametrize("key", TENSORS)
@pytest.mark.parametrize("sizes", [{}, {"num_readers": 3, "buffer_bytes": 24}])
def test_tensors_arrive_whatever_the_size_of_the_buffers(
    source: FileTensors, key: str, sizes: dict[str, int]
) -> None:
    expected = TENSORS[key]
    assert torch.equal(_copied(source, key, 0, torch.empty_like(expected), **sizes), expected)
    narrow = torch.empty_like(expected, dtype=torch.float16)
    assert torch.equal(_copied(source, key, 0, narrow, **sizes), expected.half())


def test_rows_are_read_alone(source: FileTensors) -> None:
    rows = _copied(source, "matrix", 4, torch.empty(3, 7), num_readers=2, buffer_bytes=16)
    assert torch.equal(rows, TENSORS["matrix"][4:7])


def test_tensors_that_share_bytes_are_found(tmp_path: Path) -> None:
    whole = torch.arange(30.0).view(10, 3)
    torch.save({"whole": whole, "part": whole[6:], "across": whole.t()}, tmp_path / "t.pth")
    source = PickleSource(tmp_path / "t.pth")
    assert torch.equal(_copied(source, "part", 1, torch.empty(2, 3)), whole[7:9])
    assert source.locate("across") is None  # its rows are no bytes in a row


def test_files_of_old_torch_are_read_as_a_whole(tmp_path: Path) -> None:
    weight, bias = torch.randn(3, 4), torch.randn(3)
    path = tmp_path / "old.pth"
    torch.save({"weight": weight, "bias": bias}, path, _use_new_zipfile_serialization=False)
    source = PickleSource(path)
    assert source.locate("weight") is None
    with torch.device("meta"):
        module = nn.Linear(4, 3)
    figures = load_module(module, source, device=CPU)
    assert torch.equal(module.weight, weight) and torch.equal(module.bias, bias)
    assert figures.num_bytes == 0


def test_a_file_that_ends_too_soon_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    save_file({"w": torch.zeros(4, 64)}, path)
    source = SafetensorsSource("cut", {"w": path})
    path.write_bytes(path.read_bytes()[:-100])
    part = source.locate("w")
    assert part is not None
    with pytest.raises(CheckpointError, match=r"cut\.safetensors ends before byte"):
        list(copy_from_files([(part, torch.empty(4, 64))], buffer_bytes=128))


def test_the_log_tells_how_much_was_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_file({"weight": torch.ones(3, 4), "bias": torch.zeros(3)}, tmp_path / "t.safetensors")
    source = SafetensorsSource("t", dict.fromkeys(("weight", "bias"), tmp_path / "t.safetensors"))
    with torch.device("meta"):
        module = nn.Linear(4, 3).bfloat16()
    with caplog.at_level(logging.INFO, "model"):
        figures = load_module(module, source, device=CPU)
    assert figures.num_bytes == 15 * 4 and figures.seconds > 0
    assert len(caplog.messages) == 1 and caplog.messages[0].startswith("read 0.00 of 0.00 GB of t")
