"""Sizes of the DiT, from a checkpoint's `config.json` and, where it is silent, tensor shapes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.checkpoint.layout import CheckpointPaths, Layout, read_json
from model.checkpoint.shards import Shapes, find_shards
from model.errors import CheckpointError, ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class DiTConfig:
    """Architecture of one expert; the defaults are LingBot-World-Base (Cam).

    Args:
        dim: Width of the residual stream.
        ffn_dim: Inner width of the feed-forward network.
        num_heads: Attention heads; `dim` divides into them.
        num_layers: Transformer blocks.
        text_dim: Width of the T5 embeddings.
        text_len: Rows that the cross-attention attends, padding included.
        image_dim: Width of the CLIP features, or None where the checkpoint has no image branch.
        in_dim: Latent, mask and condition channels together.
        out_dim: Latent channels.
        freq_dim: Width of the sinusoidal timestep embedding.
        camera_dim: Camera channels per latent pixel (6 ray values of 8x8 pixels).
        eps: Epsilon of all norms.
    """

    dim: int = 5120
    ffn_dim: int = 13824
    num_heads: int = 40
    num_layers: int = 40
    text_dim: int = 4096
    text_len: int = 512
    image_dim: int | None = None
    in_dim: int = 36
    out_dim: int = 16
    freq_dim: int = 256
    camera_dim: int = 384
    eps: float = 1e-6

    def __post_init__(self) -> None:
        if self.dim % self.num_heads or (self.dim // self.num_heads) % 2:
            raise ConfigurationError(
                f"dim {self.dim} must divide into {self.num_heads} heads of an even size"
            )

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads

    def check_ulysses_degree(self, degree: int) -> None:
        """Refuses a sequence-parallel degree that does not divide the heads.

        Raises:
            ConfigurationError: It does not; the message lists those that do.
        """
        if degree < 1 or self.num_heads % degree:
            allowed = [str(p) for p in range(1, self.num_heads + 1) if self.num_heads % p == 0]
            raise ConfigurationError(
                f"ulysses_degree {degree} does not divide {self.num_heads} attention heads; "
                f"choose one of {', '.join(allowed)}"
            )


def read_dit_config(paths: CheckpointPaths) -> DiTConfig:
    """Reads the sizes of both experts, which must be equal.

    Raises:
        CheckpointError: A config is unreadable, lacks a field, or the experts differ.
    """
    high, low = (_read_expert(path, paths.layout) for path in (paths.high_noise, paths.low_noise))
    if high != low:
        raise CheckpointError(f"{paths.root}: the experts differ in size: {high} against {low}")
    return high


def expert_json(config: DiTConfig) -> dict[str, object]:
    """What the published `config.json` of an expert of these sizes says."""
    names = ("dim", "ffn_dim", "freq_dim", "in_dim", "out_dim", "num_heads", "num_layers", "eps")
    sizes = {name: getattr(config, name) for name in (*names, "text_len", "text_dim")}
    return {"_class_name": "WanModel", "model_type": "i2v", **sizes}


def _read_expert(directory: Path, layout: Layout) -> DiTConfig:
    raw = read_json(directory / "config.json")
    shards = find_shards(directory, "diffusion_pytorch_model")
    shapes = shards.read_shapes()
    fields = _published_fields(raw) if layout is Layout.PUBLISHED else _diffusers_fields(raw)
    missing = sorted(name for name, value in fields.items() if value is None)
    if missing:
        raise CheckpointError(f"{directory}/config.json lacks {', '.join(missing)}")
    text_key, image_key = _probe_keys(layout)
    return DiTConfig(
        **fields,
        text_dim=_width(shards.name, shapes, text_key),
        image_dim=shapes[image_key][-1] if image_key in shapes else None,
        camera_dim=_width(shards.name, shapes, "patch_embedding_wancamctrl.weight") // 4,
    )


def _published_fields(raw: Mapping[str, Any]) -> dict[str, Any]:
    fields = {name: raw.get(name) for name in ("dim", "ffn_dim", "num_heads", "num_layers")}
    optional = ("in_dim", "out_dim", "freq_dim", "text_len", "eps")
    return fields | {name: raw[name] for name in optional if name in raw}


def _diffusers_fields(raw: Mapping[str, Any]) -> dict[str, Any]:
    heads, head_dim = raw.get("num_attention_heads"), raw.get("attention_head_dim")
    return {
        "dim": heads * head_dim if heads and head_dim else None,
        "ffn_dim": raw.get("ffn_dim"),
        "num_heads": heads,
        "num_layers": raw.get("num_layers"),
        "in_dim": raw.get("in_channels", 36),
        "out_dim": raw.get("out_channels", 16),
        "freq_dim": raw.get("freq_dim", 256),
        "eps": raw.get("eps", 1e-6),
    }


def _probe_keys(layout: Layout) -> tuple[str, str]:
    if layout is Layout.PUBLISHED:
        return "text_embedding.0.weight", "img_emb.proj.1.weight"
    return (
        "condition_embedder.text_embedder.linear_1.weight",
        "condition_embedder.image_embedder.ff.net.0.proj.weight",
    )


def _width(name: str, shapes: Shapes, key: str) -> int:
    if key not in shapes:
        raise CheckpointError(f"{name} lacks {key}")
    return shapes[key][-1]
