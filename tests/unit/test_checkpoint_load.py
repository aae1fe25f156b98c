from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from model.checkpoint.load import load_module
from model.errors import CheckpointError

CPU = torch.device("cpu")


class MemorySource:
    """Tensors in memory that remembers what was read."""

    name = "memory"

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        self.shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
        self.keys_read: list[str] = []

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Tensor:
        self.keys_read.append(key)
        return self._tensors[key][start:stop]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.second = nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight


class WithBuffers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("saved", torch.zeros(2))
        self.register_buffer("unsaved", torch.zeros(2), persistent=False)


def _on_meta(kind: type[nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return kind()


def test_weights_arrive_converted_frozen_and_under_their_disk_names() -> None:
    with torch.device("meta"):
        module = nn.Linear(3, 2).to(torch.bfloat16)
    weight, bias = torch.randn(2, 3), torch.randn(2)
    source = MemorySource({"disk.weight": weight, "disk.bias": bias})
    load_module(module, source, lambda name: f"disk.{name}", device=CPU)
    assert torch.equal(module.weight, weight.to(torch.bfloat16))
    assert torch.equal(module.bias, bias.to(torch.bfloat16))
    assert not module.weight.requires_grad and not module.training


def test_every_fault_is_named_before_anything_is_read() -> None:
    with torch.device("meta"):
        module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    source = MemorySource(
        {
            "0.weight": torch.zeros(2, 4),
            "0.bias": torch.zeros(2),
            "1.weight": torch.zeros(2, 2),
            "stranger": torch.zeros(1),
            "known_to_be_unused.a": torch.zeros(1),
        }
    )
    with pytest.raises(CheckpointError) as caught:
        load_module(module, source, device=CPU, ignored=("known_to_be_unused.",))
    assert str(caught.value).splitlines() == [
        "memory does not fit the model:",
        "  - missing: 1.bias",
        "  - unknown: stranger",
        "  - of the wrong shape: 0.weight [2, 4], expected [2, 3]",
    ]
    assert source.keys_read == []


@pytest.mark.parametrize("held", [["first.weight"], ["second.weight"]])
def test_tied_weights_need_one_key_and_stay_one_tensor(held: list[str]) -> None:
    module, weight = _on_meta(Tied), torch.randn(3, 3)
    source = MemorySource(dict.fromkeys(held, weight))
    load_module(module, source, device=CPU)
    assert module.first.weight is module.second.weight
    assert torch.equal(module.first.weight, weight)


def test_tied_weights_on_disk_twice_are_read_once() -> None:
    module, weight = _on_meta(Tied), torch.randn(3, 3)
    source = MemorySource({"first.weight": weight, "second.weight": weight})
    load_module(module, source, device=CPU)
    assert len(source.keys_read) == 1


def test_buffers_outside_the_state_dict_must_be_given() -> None:
    saved, unsaved = torch.randn(2), torch.randn(2)
    source = MemorySource({"saved": saved})
    with pytest.raises(ValueError, match="unsaved"):
        load_module(_on_meta(WithBuffers), source, device=CPU)
    module = _on_meta(WithBuffers)
    load_module(module, source, device=CPU, constants={"unsaved": unsaved})
    assert torch.equal(module.saved, saved) and torch.equal(module.unsaved, unsaved)
