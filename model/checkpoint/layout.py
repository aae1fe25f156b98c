"""Where the parts of a checkpoint lie: the published directory layout, or diffusers'."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from model.errors import CheckpointError

INDEX_SUFFIX = ".safetensors.index.json"


class Layout(str, Enum):
    """Which tool wrote the directory; decides file and key names."""

    PUBLISHED = "published"
    DIFFUSERS = "diffusers"


@dataclass(frozen=True, slots=True)
class CheckpointPaths:
    """Paths of one checkpoint's parts; `image_encoder` is None where the directory has none."""

    root: Path
    layout: Layout
    high_noise: Path
    low_noise: Path
    text_encoder: Path
    tokenizer: Path
    vae: Path
    image_encoder: Path | None


_PUBLISHED = {
    "high_noise": "high_noise_model",
    "low_noise": "low_noise_model",
    "text_encoder": "models_t5_umt5-xxl-enc-bf16.pth",
    "tokenizer": "google/umt5-xxl",
    "vae": "Wan2.1_VAE.pth",
    "image_encoder": "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth",
}
_DIFFUSERS = {
    "high_noise": "transformer",
    "low_noise": "transformer_2",
    "text_encoder": "text_encoder",
    "tokenizer": "tokenizer",
    "vae": "vae",
    "image_encoder": "image_encoder",
}
_DIT_STEM = "diffusion_pytorch_model"
_STEMS = {"high_noise": _DIT_STEM, "low_noise": _DIT_STEM, "vae": _DIT_STEM}


def locate_checkpoint(root: str | Path) -> CheckpointPaths:
    """Finds the parts of a checkpoint and checks that each is complete.

    Args:
        root: A directory in the published layout (`high_noise_model/`, …) or in diffusers'
            (`model_index.json`, `transformer/`, …).

    Raises:
        CheckpointError: Something is missing; the message lists all of it.
    """
    root = Path(root).resolve()
    if not root.is_dir():
        raise CheckpointError(f"checkpoint {root} is not a directory")
    layout = Layout.DIFFUSERS if (root / "model_index.json").is_file() else Layout.PUBLISHED
    names = _PUBLISHED if layout is Layout.PUBLISHED else _DIFFUSERS
    paths = {part: root / name for part, name in names.items()}
    has_image_encoder = paths["image_encoder"].exists()
    wanted = {p: path for p, path in paths.items() if p != "image_encoder" or has_image_encoder}
    faults = [fault for part, path in wanted.items() for fault in _faults(part, path, layout)]
    if faults:
        listing = "\n".join(f"  - {fault}" for fault in faults)
        raise CheckpointError(
            f"checkpoint {root} (read as {layout.value} layout) is incomplete:\n{listing}"
        )
    image_encoder = paths.pop("image_encoder") if has_image_encoder else None
    parts = {part: path for part, path in paths.items() if part != "image_encoder"}
    return CheckpointPaths(root=root, layout=layout, image_encoder=image_encoder, **parts)


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object from a file.

    Raises:
        CheckpointError: It is no JSON object.
    """
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold one JSON object")
    return value


def _faults(part: str, path: Path, layout: Layout) -> Iterator[str]:
    if part == "tokenizer":
        yield from _missing(path, "tokenizer.json", "tokenizer_config.json")
    elif path.suffix == ".pth":
        if not path.is_file():
            yield f"{path.name} (file)"
    else:
        yield from _missing(path, "config.json")
        yield from _missing_weights(path, _STEMS.get(part, "model"))


def _missing(directory: Path, *names: str) -> Iterator[str]:
    for name in names:
        if not (directory / name).is_file():
            yield f"{_relative(directory)}/{name}"


def _missing_weights(directory: Path, stem: str) -> Iterator[str]:
    index = directory / f"{stem}{INDEX_SUFFIX}"
    if (directory / f"{stem}.safetensors").is_file():
        return
    if not index.is_file():
        yield f"{_relative(directory)}/{stem}.safetensors (or {index.name} with its shards)"
        return
    shards = set(read_json(index).get("weight_map", {}).values())
    yield from _missing(directory, *sorted(shards))


def _relative(directory: Path) -> str:
    return directory.name if directory.name != "umt5-xxl" else "google/umt5-xxl"
