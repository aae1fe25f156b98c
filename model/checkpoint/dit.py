"""Keys of the DiT on disk: the published names are the model's own, diffusers' are mapped."""

import re
from collections.abc import Callable

from model.checkpoint.layout import Layout
from model.checkpoint.load import same_key

_TO_DIFFUSERS = (
    (r"^time_embedding\.0\.", "condition_embedder.time_embedder.linear_1."),
    (r"^time_embedding\.2\.", "condition_embedder.time_embedder.linear_2."),
    (r"^text_embedding\.0\.", "condition_embedder.text_embedder.linear_1."),
    (r"^text_embedding\.2\.", "condition_embedder.text_embedder.linear_2."),
    (r"^time_projection\.1\.", "condition_embedder.time_proj."),
    (r"^img_emb\.proj\.0\.", "condition_embedder.image_embedder.norm1."),
    (r"^img_emb\.proj\.1\.", "condition_embedder.image_embedder.ff.net.0.proj."),
    (r"^img_emb\.proj\.3\.", "condition_embedder.image_embedder.ff.net.2."),
    (r"^img_emb\.proj\.4\.", "condition_embedder.image_embedder.norm2."),
    (r"^head\.modulation$", "scale_shift_table"),
    (r"^head\.head\.", "proj_out."),
    (r"\.modulation$", ".scale_shift_table"),
    (r"\.k_img\.", ".add_k_proj."),
    (r"\.v_img\.", ".add_v_proj."),
    (r"\.norm_k_img\.", ".norm_added_k."),
    (r"\.(self|cross)_attn\.([qkv])\.", r".\1_attn.to_\2."),
    (r"\.(self|cross)_attn\.o\.", r".\1_attn.to_out.0."),
    (r"\.self_attn\.", ".attn1."),
    (r"\.cross_attn\.", ".attn2."),
    (r"\.ffn\.0\.", ".ffn.net.0.proj."),
    (r"\.ffn\.2\.", ".ffn.net.2."),
    (r"\.norm3\.", ".norm2."),  # diffusers numbers the norms in the order it runs them
)


def dit_key_map(layout: Layout) -> Callable[[str], str]:
    """The function from a parameter's name in `model.dit.DiT` to its key on disk."""
    return same_key if layout is Layout.PUBLISHED else _diffusers_key


def _diffusers_key(name: str) -> str:
    for pattern, replacement in _TO_DIFFUSERS:
        name = re.sub(pattern, replacement, name)
    return name
