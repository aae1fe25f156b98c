from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel

from model.checkpoint.layout import CheckpointPaths, Layout
from model.errors import CheckpointError
from model.image_encoder import ImageEncoder
from model.types import UInt8Array

CPU = torch.device("cpu")
LAYERS, DIM, IMAGE_SIZE = 3, 160, 42


@pytest.fixture(scope="module")
def reference() -> CLIPVisionModel:
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=DIM,
        intermediate_size=200,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        image_size=IMAGE_SIZE,
        patch_size=14,
        hidden_act="gelu",
    )
    model = CLIPVisionModel(config).eval()
    for parameter in model.parameters():  # norms would start as the identity
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def image() -> UInt8Array:
    return np.random.default_rng(0).integers(0, 256, (60, 100, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def expected(reference: CLIPVisionModel, image: UInt8Array) -> Tensor:
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1
    square = F.interpolate(pixels, size=(IMAGE_SIZE, IMAGE_SIZE), mode="bicubic")
    with torch.no_grad():
        output = reference((square / 2 + 0.5 - mean) / std, output_hidden_states=True)
    assert len(output.hidden_states) == LAYERS + 1
    return output.hidden_states[-2][0]


def _to_published(reference: CLIPVisionModel) -> dict[str, Tensor]:
    """The tower as open-clip's XLM-RoBERTa file has it, with a token text tower beside it."""
    ours = {key.removeprefix("vision_model."): v for key, v in reference.state_dict().items()}
    published = {
        "visual.cls_embedding": ours["embeddings.class_embedding"][None, None],
        "visual.pos_embedding": ours["embeddings.position_embedding.weight"][None],
        "visual.patch_embedding.weight": ours["embeddings.patch_embedding.weight"],
        "visual.head": torch.zeros(DIM, 8),
        "log_scale": torch.tensor(1.0),
        "textual.token_embedding.weight": torch.zeros(4, 8),
    }
    for leaf in ("weight", "bias"):
        published[f"visual.pre_norm.{leaf}"] = ours[f"pre_layrnorm.{leaf}"]
        published[f"visual.post_norm.{leaf}"] = ours[f"post_layernorm.{leaf}"]
        for layer in range(LAYERS):
            old, new = f"encoder.layers.{layer}", f"visual.transformer.{layer}"
            published[f"{new}.attn.to_qkv.{leaf}"] = torch.cat(
                [ours[f"{old}.self_attn.{letter}_proj.{leaf}"] for letter in "qkv"]
            )
            published[f"{new}.attn.proj.{leaf}"] = ours[f"{old}.self_attn.out_proj.{leaf}"]
            published[f"{new}.mlp.0.{leaf}"] = ours[f"{old}.mlp.fc1.{leaf}"]
            published[f"{new}.mlp.2.{leaf}"] = ours[f"{old}.mlp.fc2.{leaf}"]
            published[f"{new}.norm1.{leaf}"] = ours[f"{old}.layer_norm1.{leaf}"]
            published[f"{new}.norm2.{leaf}"] = ours[f"{old}.layer_norm2.{leaf}"]
    return published


def _load(checkpoint: CheckpointPaths, path: Path, layout: Layout) -> ImageEncoder:
    paths = replace(checkpoint, image_encoder=path, layout=layout)
    return ImageEncoder.load(paths, device=CPU, dtype=torch.float32)


def _close(ours: np.ndarray, expected: Tensor) -> bool:
    return float((torch.from_numpy(ours) - expected).norm() / expected.norm()) <= 1e-5


def test_published_file(
    synthetic_checkpoint: CheckpointPaths,
    reference: CLIPVisionModel,
    image: UInt8Array,
    expected: Tensor,
    tmp_path: Path,
) -> None:
    torch.save(_to_published(reference), tmp_path / "clip.pth")
    encoder = _load(synthetic_checkpoint, tmp_path / "clip.pth", Layout.PUBLISHED)
    embeds = encoder.encode(image).embeds
    assert embeds.shape == (1 + 3 * 3, DIM) and embeds.dtype == np.float32
    assert _close(embeds, expected)


@pytest.mark.parametrize("prefix", ["", "vision_model."])
def test_diffusers_folder(
    synthetic_checkpoint: CheckpointPaths,
    reference: CLIPVisionModel,
    image: UInt8Array,
    expected: Tensor,
    tmp_path: Path,
    prefix: str,
) -> None:
    state = {
        prefix + key.removeprefix("vision_model."): value
        for key, value in reference.state_dict().items()
    }
    reference.save_pretrained(tmp_path)
    save_file(state, tmp_path / "model.safetensors")
    encoder = _load(synthetic_checkpoint, tmp_path, Layout.DIFFUSERS)
    assert _close(encoder.encode(image).embeds, expected)


def test_faults_name_published_keys(
    synthetic_checkpoint: CheckpointPaths, reference: CLIPVisionModel, tmp_path: Path
) -> None:
    tensors = _to_published(reference)
    del tensors["visual.transformer.1.attn.to_qkv.bias"]
    tensors["visual.stranger"] = torch.zeros(1)
    tensors["visual.pre_norm.bias"] = torch.zeros(3)
    torch.save(tensors, tmp_path / "clip.pth")
    with pytest.raises(CheckpointError) as caught:
        _load(synthetic_checkpoint, tmp_path / "clip.pth", Layout.PUBLISHED)
    for fault in (
        "missing: visual.transformer.1.attn.to_qkv.bias (k)",
        "unknown: visual.stranger",
        "of the wrong shape: visual.pre_norm.bias [3], expected [160]",
    ):
        assert fault in str(caught.value)


def test_a_checkpoint_without_clip_is_refused(synthetic_checkpoint: CheckpointPaths) -> None:
    paths = replace(synthetic_checkpoint, image_encoder=None)
    with pytest.raises(CheckpointError, match="has no CLIP"):
        ImageEncoder.load(paths, device=CPU, dtype=torch.float32)
