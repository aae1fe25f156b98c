"""The golden checkpoint rewritten in diffusers' layout gives the golden results again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import UMT5EncoderModel

from model.checkpoint.dit import dit_key_map
from model.checkpoint.layout import CheckpointPaths, Layout, locate_checkpoint
from model.checkpoint.tensors import TensorSource
from model.checkpoint.text_encoder import (
    open_text_encoder,
    published_text_encoder_key,
    read_text_encoder_config,
)
from model.checkpoint.vae import open_vae, published_vae_key, read_vae_config
from model.config import read_dit_config
from model.denoiser import Denoiser
from model.text_encoder import TextEncoder
from model.types import CameraPath, DenoiseRequest, FirstFrame, SamplerSettings, VideoShape
from model.vae_decoder import VAEDecoder
from model.verify import verify_weights
from tests.support.golden import golden_results

CPU = torch.device("cpu")
DIT_STEM = "diffusion_pytorch_model.safetensors"


def renamed(model: nn.Module, source: TensorSource, key_of: Callable[[str], str]) -> dict:
    """Tensors of a published file under the names of a library's own model."""
    names = dict(model.named_parameters())
    return {name: source.read(key_of(name)).contiguous() for name in names}


def write_dit(published: Path, folder: Path) -> None:
    key_of = dit_key_map(Layout.DIFFUSERS)
    raw = json.loads((published / "config.json").read_text())
    folder.mkdir()
    tensors: dict[str, Tensor] = load_file(published / DIT_STEM)
    save_file({key_of(name): tensor for name, tensor in tensors.items()}, folder / DIT_STEM)
    sizes = {
        "num_attention_heads": raw["num_heads"],
        "attention_head_dim": raw["dim"] // raw["num_heads"],
        "ffn_dim": raw["ffn_dim"],
        "num_layers": raw["num_layers"],
    }
    (folder / "config.json").write_text(json.dumps(sizes))


def write_text_encoder(paths: CheckpointPaths, folder: Path) -> None:
    source = open_text_encoder(paths)
    config = read_text_encoder_config(paths, source)
    with torch.device("meta"):
        model = UMT5EncoderModel(config)
    folder.mkdir()
    tensors = renamed(model, source, published_text_encoder_key)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config.to_dict()))


def write_vae(paths: CheckpointPaths, folder: Path) -> None:
    source = open_vae(paths)
    config = read_vae_config(paths, source)
    with torch.device("meta"):
        model = AutoencoderKLWan(
            base_dim=config.base_dim,
            dim_mult=list(config.dim_mult),
            num_res_blocks=config.num_res_blocks,
            temperal_downsample=list(config.temporal_downsample),
        )
    folder.mkdir()
    save_file(
        renamed(model, source, lambda name: published_vae_key(name, config)), folder / DIT_STEM
    )
    values = {
        "base_dim": config.base_dim,
        "z_dim": 16,
        "dim_mult": config.dim_mult,
        "num_res_blocks": config.num_res_blocks,
        "temperal_downsample": config.temporal_downsample,
        "latents_mean": config.latents_mean,
        "latents_std": config.latents_std,
    }
    (folder / "config.json").write_text(json.dumps(values))


@pytest.fixture(scope="module")
def checkpoint(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> CheckpointPaths:
    root = tmp_path_factory.mktemp("diffusers") / "checkpoint"
    root.mkdir()
    published = locate_checkpoint(golden / "checkpoint")
    (root / "model_index.json").write_text("{}")
    write_dit(published.high_noise, root / "transformer")
    write_dit(published.low_noise, root / "transformer_2")
    write_text_encoder(published, root / "text_encoder")
    write_vae(published, root / "vae")
    shutil.copytree(published.tokenizer, root / "tokenizer")
    return locate_checkpoint(root)


def test_sizes_and_keys_are_found(checkpoint: CheckpointPaths, golden: Path) -> None:
    assert checkpoint.layout is Layout.DIFFUSERS
    assert read_dit_config(checkpoint) == read_dit_config(locate_checkpoint(golden / "checkpoint"))
    verify_weights(checkpoint)


def test_a_clip_is_the_published_one(checkpoint: CheckpointPaths, golden: Path) -> None:
    expected = golden_results(golden)
    case = json.loads((golden / "case/case.json").read_text())
    text_encoder = TextEncoder.load(checkpoint, device=CPU, dtype=torch.float32)
    request = DenoiseRequest(
        prompt=text_encoder.encode((golden / "case/prompt.txt").read_text()),
        negative_prompt=text_encoder.encode(case["neg_prompt"]),
        first_frame=FirstFrame(expected["y"][4:].numpy()),
        image=None,
        camera=CameraPath(
            np.load(golden / "case/poses.npy"), np.load(golden / "case/intrinsics.npy")
        ),
        shape=VideoShape(num_frames=17, height=80, width=160),
        sampler=SamplerSettings(num_inference_steps=case["sampling_steps"]),
        seed=case["seed"],
    )
    denoiser = Denoiser.load(checkpoint, device=CPU, dtype=torch.float32)
    *_, latents = denoiser.denoise(request)
    final = expected["latent_steps"][-1]
    assert (torch.from_numpy(latents.values) - final).norm() / final.norm() <= 1e-3
    decoder = VAEDecoder.load(checkpoint, device=CPU, dtype=torch.float32)
    video = torch.cat(list(decoder.decode_float(latents)), dim=1)
    assert (video - expected["video"]).abs().mean() <= 2e-3
