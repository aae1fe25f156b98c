"""The DiT with its CLIP branch against diffusers' WanTransformer3DModel, same weights."""

import json

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import save_file

from model.attention import sdpa
from model.checkpoint.dit import dit_key_map
from model.checkpoint.layout import Layout
from model.checkpoint.load import load_module
from model.checkpoint.tensors import open_safetensors
from model.config import DiTConfig
from model.dit import DiT
from model.parallel.sequence import NoSequenceParallel

CONFIG = DiTConfig(dim=48, ffn_dim=96, num_heads=4, num_layers=2, text_dim=32, image_dim=1280)
CAMERA = ("patch_embedding_wancamctrl", "c2ws_hidden_states_layer1", "c2ws_hidden_states_layer2")
CAMERA_BLOCK = ("cam_injector_layer1", "cam_injector_layer2", "cam_scale_layer", "cam_shift_layer")


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(0)
    model = WanTransformer3DModel(
        num_attention_heads=4,
        attention_head_dim=12,
        in_channels=36,
        out_channels=16,
        text_dim=32,
        freq_dim=256,
        ffn_dim=96,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        image_dim=1280,
        added_kv_proj_dim=48,
        rope_max_seq_len=64,
    )
    for name, parameter in model.named_parameters():
        if "norm" in name or "scale_shift" in name:
            torch.nn.init.normal_(parameter, mean=float("norm" in name), std=0.2)
    return model.eval()


@pytest.fixture(scope="module")
def dit(reference, tmp_path_factory):
    directory = tmp_path_factory.mktemp("diffusers")
    tensors = dict(reference.state_dict()) | camera_weights()
    save_file(tensors, directory / "diffusion_pytorch_model.safetensors")
    (directory / "config.json").write_text(json.dumps(dict(reference.config)))
    with torch.device("meta"):
        dit = DiT(CONFIG, sequence=NoSequenceParallel(), attention=sdpa)
    source = open_safetensors(directory, "diffusion_pytorch_model")
    load_module(dit, source, dit_key_map(Layout.DIFFUSERS), device=torch.device("cpu"))
    return dit


def camera_weights():
    names = [*CAMERA, *(f"blocks.{i}.{name}" for i in range(2) for name in CAMERA_BLOCK)]
    with torch.device("meta"):
        shapes = DiT(CONFIG, sequence=NoSequenceParallel(), attention=sdpa).state_dict()
    keys = [f"{name}.{leaf}" for name in names for leaf in ("weight", "bias")]
    return {key: torch.zeros(shapes[key].shape) for key in keys}


@torch.no_grad()
def test_flow_agrees_with_diffusers(reference, dit):
    generator = torch.Generator().manual_seed(1)
    latent, y = torch.randn(36, 3, 6, 8, generator=generator).split([16, 20])
    text = torch.randn(7, 32, generator=generator)
    image = torch.randn(257, 1280, generator=generator)
    padded = torch.cat([text, torch.zeros(512 - 7, 32)])[None]
    expected = reference(
        torch.cat([latent, y])[None], torch.tensor([700]), padded, image[None], return_dict=False
    )[0][0]

    clip = dit.condition_clip(y, None, kept_blocks=0)
    ours = dit(latent, torch.tensor(700), clip, dit.condition_prompt(text, image))
    assert (ours - expected).norm() / expected.norm() <= 1e-5

    other = dit(latent, torch.tensor(700), clip, dit.condition_prompt(text, image.flip(1)))
    assert (other - expected).norm() / expected.norm() > 1e-3
