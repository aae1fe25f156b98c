"""Strict loading of a meta-device module, slice by slice, whole or sharded by FSDP2."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Shard

from model.checkpoint.progress import LoadFigures, Progress
from model.checkpoint.staging import Part, copy_from_files
from model.checkpoint.tensors import FileTensors, TensorSource
from model.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class _Entry:
    """One tensor of the module: its names (several when tied) and their keys on disk."""

    names: tuple[str, ...]
    keys: tuple[str, ...]
    shape: tuple[int, ...]


def same_key(name: str) -> str:
    """The key map of files that use the module's own names."""
    return name


@torch.no_grad()
def load_module(
    module: nn.Module,
    source: TensorSource,
    key_of: Callable[[str], str] = same_key,
    *,
    device: torch.device,
    ignored: tuple[str, ...] = (),
    constants: Mapping[str, Tensor] | None = None,
) -> LoadFigures:
    """Fills a module from a file after checking that the two fit each other exactly.

    Every key and shape is checked before the first byte is read. Then the module is allocated on
    `device` in the dtype it already has, and its tensors are read piece by piece, so that the host
    holds a few buffers of them. Of a parameter that `fully_shard` has split, only the rows of this
    rank are read. The module ends frozen and in evaluation mode.

    Args:
        module: Built on the meta device, then cast, then perhaps given to `fully_shard`.
        source: Where the tensors lie.
        key_of: Key on disk of a parameter or persistent buffer of the module. Tied parameters
            need only one of their keys on disk.
        device: Where the weights go; on the meta device the check is all that is done.
        ignored: Prefixes of keys on disk that belong to no part of this module on purpose.
        constants: Values of the buffers that no file holds, by name: exactly all of them.

    Returns:
        What was read from files, and how long that took.

    Raises:
        CheckpointError: Keys are missing, unknown or misshapen; the message lists all of them.
    """
    entries = list(_entries(module, key_of))
    _check(entries, source, ignored)
    if device.type == "meta":
        return LoadFigures(0, 0.0)
    _allocate(module, entries, device)
    _fill_constants(module, constants or {})
    tensors = _named_tensors(module)
    keys = {e.names[0]: next(key for key in e.keys if key in source.shapes) for e in entries}
    figures = _fill({key: tensors[name] for name, key in keys.items()}, source)
    module.requires_grad_(False).eval()
    return figures


def _named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers, tied ones under each of their names."""
    unsaved = _unsaved_buffers(module)
    tensors: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    for name, buffer in module.named_buffers(remove_duplicate=False):
        if name not in unsaved:
            tensors[name] = buffer
    return tensors


def _unsaved_buffers(module: nn.Module) -> set[str]:
    return {
        f"{path}.{name}" if path else name
        for path, child in module.named_modules()
        for name in child._non_persistent_buffers_set
    }


def _entries(module: nn.Module, key_of: Callable[[str], str]) -> Iterator[_Entry]:
    names_of: dict[int, list[str]] = {}
    tensors = _named_tensors(module)
    for name, tensor in tensors.items():
        names_of.setdefault(id(tensor), []).append(name)
    for names in names_of.values():
        keys = tuple(dict.fromkeys(key_of(name) for name in names))
        yield _Entry(tuple(names), keys, tuple(tensors[names[0]].shape))


def _check(entries: list[_Entry], source: TensorSource, ignored: tuple[str, ...]) -> None:
    known = {key for entry in entries for key in entry.keys}
    missing = [e.keys[0] for e in entries if not any(key in source.shapes for key in e.keys)]
    unknown = [key for key in source.shapes if key not in known and not key.startswith(ignored)]
    misshapen = [
        f"{key} {list(source.shapes[key])}, expected {list(entry.shape)}"
        for entry in entries
        for key in entry.keys
        if key in source.shapes and source.shapes[key] != entry.shape
    ]
    faults = [
        *_fault("missing", missing),
        *_fault("unknown", unknown),
        *_fault("of the wrong shape", misshapen),
    ]
    if faults:
        raise CheckpointError(f"{source.name} does not fit the model:\n" + "\n".join(faults))


def _fault(kind: str, items: Iterable[str]) -> Iterator[str]:
    for item in sorted(items):
        yield f"  - {kind}: {item}"


def _allocate(module: nn.Module, entries: list[_Entry], device: torch.device) -> None:
    module.to_empty(device=device)
    tensors = _named_tensors(module)
    for entry in entries:  # to_empty gives every name a tensor of its own
        for alias in entry.names[1:]:
            path, _, leaf = alias.rpartition(".")
            setattr(module.get_submodule(path), leaf, tensors[entry.names[0]])


def _fill_constants(module: nn.Module, constants: Mapping[str, Tensor]) -> None:
    unsaved = _unsaved_buffers(module)
    if unsaved != set(constants):
        raise ValueError(f"buffers outside the state dict {unsaved}, values for {set(constants)}")
    for name, buffer in module.named_buffers():
        if name in constants:
            buffer.copy_(constants[name])


def _fill(targets: Mapping[str, Tensor], source: TensorSource) -> LoadFigures:
    """Fills tensors by their key on disk, each with the rows that it holds on this rank."""
    parts: list[Part] = []
    for key, target in targets.items():
        start, stop, local = _local_rows(target)
        if start == stop:
            continue
        part = source.locate(key, start) if isinstance(source, FileTensors) else None
        if part is not None and local.is_contiguous():
            parts.append((part, local))
        else:
            local.copy_(source.read(key, start, stop))
    parts.sort(key=lambda item: (item[0].path, item[0].offset))  # disks like to read on
    progress = Progress(source.name, sum(part.dtype.itemsize * t.numel() for part, t in parts))
    for num_bytes in copy_from_files(parts):
        progress.add(num_bytes)
    return progress.figures


def _local_rows(tensor: Tensor) -> tuple[int, int | None, Tensor]:
    """Rows of this rank as `torch.chunk` deals them: equal ones first, the last ranks less."""
    if not isinstance(tensor, DTensor):
        return 0, None, tensor
    if tensor.placements != (Shard(0),):
        raise ValueError(f"only rows over one mesh axis can be sharded, not {tensor.placements}")
    total = tensor.shape[0]
    rows = -(-total // tensor.device_mesh.size())
    start = min(rows * tensor.device_mesh.get_local_rank(), total)
    return start, min(start + rows, total), tensor.to_local()
