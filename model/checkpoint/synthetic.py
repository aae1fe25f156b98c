"""Writes a small checkpoint of random weights in the published layout.

    python -m model.checkpoint.synthetic DIR --seed 0

It exercises every part of the real one, the CLIP image branch included, and shows nothing sensible.
"""

import argparse
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

from model.attention import sdpa
from model.checkpoint.image_encoder import published_vision_key
from model.checkpoint.load import same_key
from model.checkpoint.synthetic_tokenizer import write_tokenizer
from model.checkpoint.tensors import INDEX_SUFFIX
from model.checkpoint.text_encoder import published_text_encoder_key
from model.checkpoint.vae import VAEConfig, published_vae_key
from model.config import DiTConfig
from model.dit import DiT
from model.errors import CheckpointError
from model.parallel.sequence import NoSequenceParallel

Shapes = Mapping[str, tuple[int, ...]]

_README = "Random weights for trying out and testing the server. Its videos show noise.\n"
_STEM = "diffusion_pytorch_model"
# Close to zero, or the camera would multiply the residual stream away layer by layer.
_GAINS = {"cam_scale_layer": 0.1, "cam_shift_layer": 0.1}


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticSize:
    """Sizes of a synthetic checkpoint.

    Args:
        dim: Width of the DiT.
        ffn_dim: Inner width of its feed-forward networks.
        num_heads: Its attention heads; gangs may use any Ulysses degree that divides them.
        num_layers: Its blocks.
        text_dim: Width of the T5 encoder.
        text_layers: Blocks of the T5 encoder.
        vae_dim: Channels of the VAE's first level.
        image_dim: Width of the CLIP tower, a multiple of 80.
        image_layers: Layers of the CLIP tower, 2 at least.
        image_size: Pixels that the CLIP tower sees, a multiple of 14.
    """

    dim: int = 128
    ffn_dim: int = 256
    num_heads: int = 8
    num_layers: int = 3
    text_dim: int = 64
    text_layers: int = 2
    vae_dim: int = 8
    image_dim: int = 80
    image_layers: int = 3
    image_size: int = 56


SMALL = SyntheticSize()
TINY = SyntheticSize(dim=64, ffn_dim=128, num_layers=2, vae_dim=4, image_layers=2, image_size=28)


def write_synthetic_checkpoint(
    directory: Path,
    *,
    seed: int,
    size: SyntheticSize = SMALL,
    image_branch: bool = True,
    num_shards: int = 1,
) -> None:
    """Writes a whole checkpoint; the directory appears only once it is complete.

    Args:
        directory: Must not exist, or be empty.
        seed: Same seed and size, same weights.
        size: How large.
        image_branch: Whether the DiT consumes CLIP features, and a CLIP file is there.
        num_shards: Files of each expert; an index lists them when there is more than one.

    Raises:
        CheckpointError: The directory holds something already.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise CheckpointError(f"{directory} is in the way of a new checkpoint")
    unfinished = directory.with_name(f"{directory.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    (unfinished / "README.txt").write_text(_README)
    vocab_size = write_tokenizer(unfinished / "google" / "umt5-xxl")
    _write_experts(unfinished, size, image_branch, num_shards, seed)
    text_encoder = _text_encoder_shapes(size, vocab_size)
    torch.save(
        _draw(text_encoder, seed=seed, stream=2), unfinished / "models_t5_umt5-xxl-enc-bf16.pth"
    )
    torch.save(_draw(_vae_shapes(size), seed=seed, stream=3), unfinished / "Wan2.1_VAE.pth")
    if image_branch:
        torch.save(
            _draw(_image_encoder_shapes(size), seed=seed, stream=4),
            unfinished / "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth",
        )
    unfinished.replace(directory)


def _write_experts(
    root: Path, size: SyntheticSize, image_branch: bool, num_shards: int, seed: int
) -> None:
    config = DiTConfig(
        dim=size.dim,
        ffn_dim=size.ffn_dim,
        num_heads=size.num_heads,
        num_layers=size.num_layers,
        text_dim=size.text_dim,
        image_dim=size.image_dim if image_branch else None,
    )
    with torch.device("meta"):
        dit = DiT(config, sequence=NoSequenceParallel(), attention=sdpa)
    shapes = _shapes(dit, same_key)
    for stream, name in enumerate(("high_noise_model", "low_noise_model")):
        folder = root / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(_expert_json(config), indent=2))
        _save_shards(folder, _draw(shapes, seed=seed, stream=stream), num_shards)


def _expert_json(config: DiTConfig) -> dict[str, object]:
    names = ("dim", "ffn_dim", "freq_dim", "in_dim", "out_dim", "num_heads", "num_layers", "eps")
    sizes = {name: getattr(config, name) for name in (*names, "text_len", "text_dim")}
    return {"_class_name": "WanModel", "model_type": "i2v", **sizes}


def _save_shards(folder: Path, tensors: dict[str, Tensor], num_shards: int) -> None:
    if num_shards == 1:
        save_file(tensors, folder / f"{_STEM}.safetensors")
        return
    keys = sorted(tensors)
    weight_map: dict[str, str] = {}
    for shard in range(num_shards):
        file = f"{_STEM}-{shard + 1:05d}-of-{num_shards:05d}.safetensors"
        held = keys[shard::num_shards]
        save_file({key: tensors[key] for key in held}, folder / file)
        weight_map |= dict.fromkeys(held, file)
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / f"{_STEM}{INDEX_SUFFIX}").write_text(json.dumps(index, indent=2))


def _text_encoder_shapes(size: SyntheticSize, vocab_size: int) -> Shapes:
    config = UMT5Config(
        vocab_size=vocab_size,
        d_model=size.text_dim,
        d_kv=16,
        d_ff=2 * size.text_dim,
        num_layers=size.text_layers,
        num_heads=size.text_dim // 16,
        feed_forward_proj="gated-gelu",
    )
    with torch.device("meta"):
        return _shapes(UMT5EncoderModel(config), published_text_encoder_key)


def _vae_shapes(size: SyntheticSize) -> Shapes:
    config = VAEConfig(
        base_dim=size.vae_dim,
        dim_mult=(1, 2, 4, 4),
        num_res_blocks=2,
        temporal_downsample=(False, True, True),
    )
    with torch.device("meta"):
        vae: nn.Module = AutoencoderKLWan(base_dim=size.vae_dim)
    return _shapes(vae, lambda name: published_vae_key(name, config))


def _image_encoder_shapes(size: SyntheticSize) -> Shapes:
    config = CLIPVisionConfig(
        hidden_size=size.image_dim,
        intermediate_size=4 * size.image_dim,
        num_hidden_layers=size.image_layers,
        num_attention_heads=size.image_dim // 80,
        image_size=size.image_size,
        patch_size=14,
    )
    with torch.device("meta"):
        shapes = dict(_shapes(CLIPVisionModel(config), published_vision_key))
    joint = {
        key.removesuffix(" (q)"): (3 * shape[0], *shape[1:])
        for key, shape in shapes.items()
        if key.endswith(" (q)")
    }
    whole = {key: shape for key, shape in shapes.items() if not key.endswith(")")}
    dim = size.image_dim
    whole["visual.cls_embedding"] = (1, 1, dim)
    whole["visual.pos_embedding"] = (1, *whole["visual.pos_embedding"])
    return {**whole, **joint, "visual.head": (dim, dim), "log_scale": ()}


def _shapes(module: nn.Module, key_of: Callable[[str], str]) -> Shapes:
    return {key_of(name): tuple(value.shape) for name, value in module.state_dict().items()}


def _draw(shapes: Shapes, *, seed: int, stream: int) -> dict[str, Tensor]:
    """Random tensors; each `stream` of one seed is another sequence."""
    generator = torch.Generator().manual_seed(1_000_003 * seed + stream)
    return dict(_drawn(shapes, generator))


def _drawn(shapes: Shapes, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
    for key in sorted(shapes):
        shape = shapes[key]
        noise = torch.randn(shape, generator=generator)
        is_norm = key.endswith(".gamma") or (len(shape) == 1 and key.endswith(".weight"))
        yield key, 1 + 0.1 * noise if is_norm else noise * _scale(key, shape)


def _scale(key: str, shape: tuple[int, ...]) -> float:
    """Standard deviation that keeps activations near 1 from layer to layer."""
    if key.endswith(".bias") or not shape:
        return 0.02
    if key == "token_embedding.weight":
        return 1.0
    if key.endswith(("modulation", "_embedding")):
        return 1 / math.sqrt(shape[-1])
    fan_in = math.prod(shape[1:])
    gain = next((gain for part, gain in _GAINS.items() if part in key), 1.0)
    return gain / math.sqrt(fan_in)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; `argv` defaults to the process's own arguments."""
    parser = argparse.ArgumentParser(description="Write a small checkpoint of random weights.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-shards", type=int, default=1)
    parser.add_argument("--no-image-branch", dest="image_branch", action="store_false")
    arguments = parser.parse_args(argv)
    write_synthetic_checkpoint(
        arguments.directory,
        seed=arguments.seed,
        image_branch=arguments.image_branch,
        num_shards=arguments.num_shards,
    )


if __name__ == "__main__":
    main()
