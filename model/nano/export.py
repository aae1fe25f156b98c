"""From trained weights to a checkpoint in the published layout.

python -m model.nano export DATA VAE.pt DIT.pt DIR
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from model.checkpoint.image_encoder import published_vision_key
from model.checkpoint.text_encoder import published_text_encoder_key
from model.checkpoint.vae import published_vae_key
from model.config import expert_json
from model.errors import CheckpointError
from model.nano.card import write_card
from model.nano.dataset import TOKENIZER
from model.nano.sizes import IMAGE_DIM, NanoSize

MOST_BYTES = 24_000_000  # of all files, so that they can lie in a repository
_TEXT_ENCODER = "models_t5_umt5-xxl-enc-bf16.pth"
_IMAGE_ENCODER = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth"


def export(
    data: Path,
    vae_file: Path,
    dit_file: Path,
    directory: Path,
    size: NanoSize,
    *,
    most_bytes: int = MOST_BYTES,
) -> int:
    """Writes a checkpoint that the server serves, and its card.

    Args:
        data: Folder of clips, encoded or not, for its tokenizer.
        vae_file: From `train_vae`.
        dit_file: From `train_dit`.
        directory: Must not exist; it appears only once it is complete.
        size: How large everything is.
        most_bytes: That all files may have together.

    Returns:
        Bytes of all files.

    Raises:
        CheckpointError: The directory is there already, or the files are larger than they may be.
    """
    if directory.exists():
        raise CheckpointError(f"{directory} is in the way of a new checkpoint")
    vae, dit = (torch.load(f, weights_only=True, map_location="cpu") for f in (vae_file, dit_file))
    unfinished = directory.with_name(f"{directory.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    (unfinished / "google").mkdir(parents=True)
    shutil.copytree(data / TOKENIZER, unfinished / "google" / "umt5-xxl")
    _write_vae(vae, unfinished, size)
    _write_world_model(dit["model"], unfinished, size)
    facts = {
        "clips": dit["data"],
        "vae": {name: vae[name] for name in ("training", "seconds", "hardware", "psnr_db")},
        "dit": {name: dit[name] for name in ("training", "seconds", "hardware", "errors")},
    }
    write_card(unfinished, facts)
    num_bytes = sum(path.stat().st_size for path in unfinished.rglob("*") if path.is_file())
    if num_bytes > most_bytes:
        raise CheckpointError(f"{unfinished} has {num_bytes} bytes, more than {most_bytes}")
    unfinished.replace(directory)
    return num_bytes


def _write_world_model(state: dict[str, Tensor], directory: Path, size: NanoSize) -> None:
    parts = _parts(state)
    for name in ("high_noise", "low_noise"):
        folder = directory / f"{name}_model"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(expert_json(size.dit), indent=2))
        weights = {key: value.bfloat16().contiguous() for key, value in parts[name].items()}
        save_file(weights, folder / "diffusion_pytorch_model.safetensors")
    text_encoder = _renamed(parts["text_encoder"], published_text_encoder_key)
    torch.save({k: v.bfloat16() for k, v in text_encoder.items()}, directory / _TEXT_ENCODER)
    image_encoder = _vision_tower(parts["image_encoder"], size)
    torch.save({k: v.half() for k, v in image_encoder.items()}, directory / _IMAGE_ENCODER)


def _parts(state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The weights of each part of a `WorldModel`."""
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        part, _, rest = key.partition(".")
        parts.setdefault(part, {})[rest] = value.cpu()
    return parts


def _renamed(state: dict[str, Tensor], key_of: Callable[[str], str]) -> dict[str, Tensor]:
    return {key_of(name): value for name, value in state.items()}


def _write_vae(stored: dict[str, Any], directory: Path, size: NanoSize) -> None:
    parts = _parts(stored["vae"])
    weights = {
        published_vae_key(name, size.vae): value.half()
        for half in ("encoder", "decoder")
        for name, value in parts[half].items()
    }
    torch.save(weights, directory / "Wan2.1_VAE.pth")
    statistics = {f"latents_{name}": stored[name].tolist() for name in ("mean", "std")}
    (directory / "Wan2.1_VAE.json").write_text(json.dumps(statistics))


def _vision_tower(state: dict[str, Tensor], size: NanoSize) -> dict[str, Tensor]:
    """The tower's file: joint projections, and the last layer, which the model never computes."""
    whole: dict[str, Tensor] = {}
    thirds: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        if name.endswith("position_ids"):
            continue
        key = published_vision_key(name)
        if key.endswith(")"):
            joint, _, letter = key.removesuffix(")").partition(" (")
            thirds.setdefault(joint, {})[letter] = value
        else:
            whole[key] = value
    whole |= {joint: torch.cat([part[c] for c in "qkv"]) for joint, part in thirds.items()}
    whole["visual.cls_embedding"] = whole["visual.cls_embedding"].view(1, 1, IMAGE_DIM)
    whole["visual.pos_embedding"] = whole["visual.pos_embedding"].unsqueeze(0)
    last = f"visual.transformer.{size.image_layers}."
    first = "visual.transformer.0."
    unused = {k.replace(first, last): v * 0 for k, v in whole.items() if k.startswith(first)}
    return whole | unused
