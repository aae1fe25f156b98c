"""umT5 encoders on disk: sizes and key names of the published file and of diffusers' folder."""

import re

from transformers import UMT5Config

from model.checkpoint.layout import CheckpointPaths, Layout, read_json
from model.checkpoint.tensors import PickleSource, TensorSource, open_safetensors
from model.errors import CheckpointError

_BLOCK = re.compile(r"encoder\.block\.(\d+)\.layer\.[01]\.(.+)")
_IN_BLOCK = {
    "layer_norm": "norm1",
    "SelfAttention.q": "attn.q",
    "SelfAttention.k": "attn.k",
    "SelfAttention.v": "attn.v",
    "SelfAttention.o": "attn.o",
    "SelfAttention.relative_attention_bias": "pos_embedding.embedding",
    "DenseReluDense.wi_0": "ffn.gate.0",
    "DenseReluDense.wi_1": "ffn.fc1",
    "DenseReluDense.wo": "ffn.fc2",
}
_OUTSIDE = {
    "shared.weight": "token_embedding.weight",
    "encoder.embed_tokens.weight": "token_embedding.weight",
    "encoder.final_layer_norm.weight": "norm.weight",
}


def open_text_encoder(checkpoint: CheckpointPaths) -> TensorSource:
    """The encoder's tensors, keys as on disk.

    Raises:
        CheckpointError: The file or folder cannot be read.
    """
    if checkpoint.layout is Layout.DIFFUSERS:
        return open_safetensors(checkpoint.text_encoder, "model")
    return PickleSource(checkpoint.text_encoder)


def read_text_encoder_config(checkpoint: CheckpointPaths, source: TensorSource) -> UMT5Config:
    """Sizes of the encoder: from `config.json`, or read off the published tensors.

    Raises:
        CheckpointError: A tensor that tells a size is missing.
    """
    if checkpoint.layout is Layout.DIFFUSERS:
        return UMT5Config(**read_json(checkpoint.text_encoder / "config.json"))
    vocab_size, d_model = _shape(source, "token_embedding.weight")
    inner, _ = _shape(source, "blocks.0.attn.q.weight")
    num_buckets, num_heads = _shape(source, "blocks.0.pos_embedding.embedding.weight")
    blocks = {key.split(".")[1] for key in source.shapes if key.startswith("blocks.")}
    return UMT5Config(
        vocab_size=vocab_size,
        d_model=d_model,
        d_kv=inner // num_heads,
        d_ff=_shape(source, "blocks.0.ffn.fc1.weight")[0],
        num_layers=len(blocks),
        num_heads=num_heads,
        relative_attention_num_buckets=num_buckets,
        relative_attention_max_distance=128,
        feed_forward_proj="gated-gelu",
        layer_norm_epsilon=1e-6,
    )


def published_text_encoder_key(name: str) -> str:
    """Published key of a parameter of `UMT5EncoderModel`."""
    match = _BLOCK.fullmatch(name)
    if match is None:
        return _OUTSIDE[name]
    block, rest = match.groups()
    part, _, leaf = rest.rpartition(".")
    is_feed_forward_norm = ".layer.1.layer_norm." in name
    return f"blocks.{block}.{'norm2' if is_feed_forward_norm else _IN_BLOCK[part]}.{leaf}"


def _shape(source: TensorSource, key: str) -> tuple[int, int]:
    shape = source.shapes.get(key, ())
    if len(shape) != 2:
        raise CheckpointError(f"{source.name} is no umT5 encoder: no matrix {key}")
    return shape[0], shape[1]
