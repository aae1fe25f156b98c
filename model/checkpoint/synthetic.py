"""Writes a small checkpoint of random weights in the published layout.

    python -m model.checkpoint.synthetic DIR --seed 0
    python -m model.checkpoint.synthetic DIR --full-size --device cuda --num-shards 8

The small one exercises every part of the real one, the CLIP image branch included, and shows
nothing sensible. The one of full size, 84 GB, has the published sizes and types, for measuring.
"""

import argparse
import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

from model.attention import sdpa
from model.checkpoint.image_encoder import published_vision_key
from model.checkpoint.layout import INDEX_SUFFIX
from model.checkpoint.load import same_key
from model.checkpoint.shards import Shapes
from model.checkpoint.synthetic_tokenizer import write_tokenizer
from model.checkpoint.text_encoder import published_text_encoder_key
from model.checkpoint.vae import VAEConfig, published_vae_key
from model.config import DiTConfig, expert_json
from model.dit import DiT
from model.errors import CheckpointError
from model.parallel.sequence import NoSequenceParallel

_README = "Random weights for trying out and testing the server. Its videos show noise.\n"
_STEM = "diffusion_pytorch_model"
_CPU = torch.device("cpu")
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
        text_ffn_dim: Inner width of its feed-forward networks.
        text_head_dim: Width of one of its heads; together they are as wide as the encoder.
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
    text_ffn_dim: int = 128
    text_head_dim: int = 16
    vae_dim: int = 8
    image_dim: int = 80
    image_layers: int = 3
    image_size: int = 56


SMALL = SyntheticSize()
TINY = SyntheticSize(dim=64, ffn_dim=128, num_layers=2, vae_dim=4, image_layers=2, image_size=28)

FULL = SyntheticSize(
    dim=5120,
    ffn_dim=13824,
    num_heads=40,
    num_layers=40,
    text_dim=4096,
    text_layers=24,
    text_ffn_dim=10240,
    text_head_dim=64,
    vae_dim=96,
)


@dataclass(frozen=True, slots=True)
class _Draw:
    """How weights are drawn."""

    seed: int
    device: torch.device
    dtype: torch.dtype


def write_synthetic_checkpoint(
    directory: Path,
    *,
    seed: int,
    size: SyntheticSize = SMALL,
    image_branch: bool = True,
    num_shards: int = 1,
    device: torch.device = _CPU,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Writes a whole checkpoint; the directory appears only once it is complete.

    Args:
        directory: Must not exist, or be empty.
        seed: Same seed, size and device, same weights.
        size: How large.
        image_branch: Whether the DiT consumes CLIP features, and a CLIP file is there.
        num_shards: Files of each expert; an index lists them when there is more than one. One
            at a time is in memory.
        device: Where weights are drawn.
        dtype: Of the experts and the T5 encoder; the rest is float32.

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
    draw = _Draw(seed, device, dtype)
    _write_experts(unfinished, size, image_branch, num_shards, draw)
    text_encoder = _text_encoder_shapes(size, vocab_size)
    torch.save(_drawn(text_encoder, draw, stream=2), unfinished / "models_t5_umt5-xxl-enc-bf16.pth")
    exact = _Draw(seed, device, torch.float32)
    torch.save(_drawn(_vae_shapes(size), exact, stream=3), unfinished / "Wan2.1_VAE.pth")
    if image_branch:
        torch.save(
            _drawn(_image_encoder_shapes(size), exact, stream=4),
            unfinished / "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth",
        )
    unfinished.replace(directory)


def _write_experts(
    root: Path, size: SyntheticSize, image_branch: bool, num_shards: int, draw: _Draw
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
        (folder / "config.json").write_text(json.dumps(expert_json(config), indent=2))
        _save_shards(folder, shapes, draw, stream=stream, num_shards=num_shards)


def _save_shards(
    folder: Path, shapes: Shapes, draw: _Draw, *, stream: int, num_shards: int
) -> None:
    if num_shards == 1:
        save_file(_drawn(shapes, draw, stream=stream), folder / f"{_STEM}.safetensors")
        return
    per_shard = -(-len(shapes) // num_shards)
    tensors = _draw_each(shapes, draw, stream=stream)
    weight_map: dict[str, str] = {}
    total = 0
    for shard in range(num_shards):
        file = f"{_STEM}-{shard + 1:05d}-of-{num_shards:05d}.safetensors"
        held = dict(islice(tensors, per_shard))
        save_file(held, folder / file)
        weight_map |= dict.fromkeys(held, file)
        total += sum(tensor.nbytes for tensor in held.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / f"{_STEM}{INDEX_SUFFIX}").write_text(json.dumps(index, indent=2))


def _text_encoder_shapes(size: SyntheticSize, vocab_size: int) -> Shapes:
    config = UMT5Config(
        vocab_size=vocab_size,
        d_model=size.text_dim,
        d_kv=size.text_head_dim,
        d_ff=size.text_ffn_dim,
        num_layers=size.text_layers,
        num_heads=size.text_dim // size.text_head_dim,
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


def _drawn(shapes: Shapes, draw: _Draw, *, stream: int) -> dict[str, Tensor]:
    return dict(_draw_each(shapes, draw, stream=stream))


def _draw_each(shapes: Shapes, draw: _Draw, *, stream: int) -> Iterator[tuple[str, Tensor]]:
    """Random tensors on the host; each `stream` of one seed is another sequence."""
    generator = torch.Generator(draw.device).manual_seed(1_000_003 * draw.seed + stream)
    for key in sorted(shapes):
        shape = shapes[key]
        noise = torch.randn(shape, generator=generator, device=draw.device)
        is_norm = key.endswith(".gamma") or (len(shape) == 1 and key.endswith(".weight"))
        value = 1 + 0.1 * noise if is_norm else noise * _scale(key, shape)
        yield key, value.to(draw.dtype).cpu()


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
    parser = argparse.ArgumentParser(description="Write a checkpoint of random weights.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-shards", type=int, default=1)
    parser.add_argument("--no-image-branch", dest="image_branch", action="store_false")
    parser.add_argument(
        "--full-size", action="store_true", help="published sizes, bfloat16, no CLIP"
    )
    parser.add_argument("--device", type=torch.device, default=_CPU, help="draws the weights")
    arguments = parser.parse_args(argv)
    write_synthetic_checkpoint(
        arguments.directory,
        seed=arguments.seed,
        size=FULL if arguments.full_size else SMALL,
        image_branch=arguments.image_branch and not arguments.full_size,
        num_shards=arguments.num_shards,
        device=arguments.device,
        dtype=torch.bfloat16 if arguments.full_size else torch.float32,
    )


if __name__ == "__main__":
    main()
