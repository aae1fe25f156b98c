"""CLIP vision towers on disk: sizes and key names of both layouts."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from transformers import CLIPVisionConfig

from model.checkpoint.layout import CheckpointPaths, Layout, read_json
from model.checkpoint.shards import Shapes
from model.checkpoint.tensors import (
    ByteRange,
    FileTensors,
    PickleSource,
    TensorSource,
    open_safetensors,
)
from model.errors import CheckpointError

# No shape tells the head count; in every published tower a head has the width of ViT-H's.
_HEAD_DIM = 80
_PUBLISHED_IMAGE_SIZE = 224
_QUERY_KEY_VALUE = ("q", "k", "v")
_LAYER = re.compile(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
_IN_LAYER = {
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "self_attn.out_proj": "attn.proj",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.2",
}
_OUTSIDE = {
    "embeddings.class_embedding": "visual.cls_embedding",
    "embeddings.patch_embedding.weight": "visual.patch_embedding.weight",
    "embeddings.position_embedding.weight": "visual.pos_embedding",
    "pre_layrnorm.weight": "visual.pre_norm.weight",
    "pre_layrnorm.bias": "visual.pre_norm.bias",
    "post_layernorm.weight": "visual.post_norm.weight",
    "post_layernorm.bias": "visual.post_norm.bias",
}
_PREFIX = "vision_model."


@dataclass(frozen=True, slots=True)
class VisionTower:
    """One tower on disk.

    Args:
        source: Its tensors.
        config: Its sizes, all layers counted.
        image_size: Side of the square it takes, in pixels.
        key_of: Key in `source` of a parameter of transformers' `CLIPVisionModel`.
        ignored: Prefixes of keys that are not needed: text tower, heads, the last layer.
    """

    source: TensorSource
    config: CLIPVisionConfig
    image_size: int
    key_of: Callable[[str], str]
    ignored: tuple[str, ...]


def open_vision_tower(checkpoint: CheckpointPaths) -> VisionTower:
    """The checkpoint's CLIP vision tower.

    Raises:
        CheckpointError: There is none, or it cannot be read.
    """
    if checkpoint.image_encoder is None:
        raise CheckpointError(f"{checkpoint.root} has no CLIP image encoder")
    if checkpoint.layout is Layout.PUBLISHED:
        return _open_published(PickleSource(checkpoint.image_encoder))
    source = open_safetensors(checkpoint.image_encoder, "model")
    sizes = read_json(checkpoint.image_encoder / "config.json")
    config = CLIPVisionConfig(**sizes)
    prefix = _PREFIX if any(key.startswith(_PREFIX) for key in source.shapes) else ""
    return VisionTower(
        source=source,
        config=config,
        image_size=int(sizes.get("image_size", _PUBLISHED_IMAGE_SIZE)),
        key_of=lambda name: prefix + name.removeprefix(_PREFIX),
        ignored=(
            f"{prefix}encoder.layers.{config.num_hidden_layers - 1}.",
            f"{prefix}embeddings.position_ids",
            "visual_projection.",
        ),
    )


def published_vision_key(name: str) -> str:
    """Published key of a parameter of `CLIPVisionModel`; a part of a joint matrix as `key (q)`."""
    name = name.removeprefix(_PREFIX)
    match = _LAYER.fullmatch(name)
    if match is None:
        return _OUTSIDE[name]
    layer, part, leaf = match.groups()
    if part in _IN_LAYER:
        return f"visual.transformer.{layer}.{_IN_LAYER[part]}.{leaf}"
    letter = part.removeprefix("self_attn.")[0]
    return _part_key(f"visual.transformer.{layer}.attn.to_qkv.{leaf}", letter)


class SplitSource:
    """A published tower seen with its joint q, k, v apart and its embeddings unbatched."""

    def __init__(self, source: TensorSource) -> None:
        self.name = source.name
        self._source = source
        self._part_of: dict[str, tuple[str, int]] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        for key, shape in source.shapes.items():
            if key.startswith("visual.") and ".to_qkv." in key:
                for index, letter in enumerate(_QUERY_KEY_VALUE):
                    self._part_of[_part_key(key, letter)] = (key, index)
                    shapes[_part_key(key, letter)] = (shape[0] // 3, *shape[1:])
            else:
                shapes[key] = _unbatched(key, shape)
        self.shapes: Shapes = shapes

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Tensor:
        rows = self.shapes[key][0] if self.shapes[key] else 0
        stop = rows if stop is None else stop
        if key in self._part_of:
            joint_key, index = self._part_of[key]
            return self._source.read(joint_key, index * rows + start, index * rows + stop)
        if self.shapes[key] != self._source.shapes[key]:
            return self._source.read(key).reshape(self.shapes[key])[start:stop]
        return self._source.read(key, start, stop)

    def locate(self, key: str, start: int = 0) -> ByteRange | None:
        if not isinstance(self._source, FileTensors):
            return None
        if key in self._part_of:
            joint_key, index = self._part_of[key]
            return self._source.locate(joint_key, index * self.shapes[key][0] + start)
        is_reshaped = self.shapes[key] != self._source.shapes[key]
        return None if is_reshaped and start else self._source.locate(key, start)


def _part_key(key: str, letter: str) -> str:
    return f"{key} ({letter})"


def _unbatched(key: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if key == "visual.cls_embedding" and shape[:2] == (1, 1):
        return shape[2:]
    if key == "visual.pos_embedding" and shape[:1] == (1,):
        return shape[1:]
    return shape


def _open_published(pickle: TensorSource) -> VisionTower:
    source = SplitSource(pickle)
    config, image_size = _read_sizes(source)
    return VisionTower(
        source=source,
        config=config,
        image_size=image_size,
        key_of=published_vision_key,
        ignored=(
            "textual.",
            "log_scale",
            "visual.head",
            f"visual.transformer.{config.num_hidden_layers - 1}.",
        ),
    )


def _read_sizes(source: TensorSource) -> tuple[CLIPVisionConfig, int]:
    shapes = source.shapes
    layers = [int(k.split(".")[2]) for k in shapes if k.startswith("visual.transformer.")]
    try:
        dim, _, patch_size, _ = shapes["visual.patch_embedding.weight"]
        grid = math.isqrt(shapes["visual.pos_embedding"][0] - 1)
        ffn_dim = shapes["visual.transformer.0.mlp.0.weight"][0]
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{source.name} is no CLIP of the kind used: {error}") from error
    if dim % _HEAD_DIM:
        raise CheckpointError(f"{source.name}: width {dim} is no multiple of {_HEAD_DIM}")
    config = CLIPVisionConfig(
        hidden_size=dim,
        intermediate_size=ffn_dim,
        num_hidden_layers=max(layers) + 1,
        num_attention_heads=dim // _HEAD_DIM,
        image_size=grid * patch_size,
        patch_size=patch_size,
        hidden_act="gelu",
        layer_norm_eps=1e-5,
    )
    return config, grid * patch_size
