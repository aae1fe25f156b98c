"""How much arithmetic one forward of the DiT is, by formula, so that rates can be compared.

Counted: the matrix products of every token (the camera's four a block included, whether they are
computed anew or kept for the clip) and self-attention. Left out, because they do not grow with the
clip or are below a hundredth of it: the products of the text rows, cross-attention's scores, norms.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DiTSizes:
    """What the arithmetic depends on; the defaults are LingBot-World-Base (Cam).

    Args:
        dim: Width of the residual stream.
        ffn_dim: Inner width of the feed-forward network.
        num_layers: Transformer blocks.
    """

    dim: int = 5120
    ffn_dim: int = 13824
    num_layers: int = 40

    @property
    def linear_flop_per_token(self) -> float:
        """Self-attention's four square products, cross-attention's two, the camera's four, FFN."""
        multiply_adds = 10 * self.dim**2 + 2 * self.dim * self.ffn_dim
        return 2.0 * multiply_adds * self.num_layers

    @property
    def attention_flop_per_pair(self) -> float:
        """Scores and weighted sum of one pair of tokens in all blocks."""
        return 4.0 * self.dim * self.num_layers


def forward_flop(num_tokens: int, sizes: DiTSizes | None = None) -> float:
    """Floating-point operations of one forward.

    Args:
        num_tokens: Tokens of the clip.
        sizes: Of the DiT; None means the published ones.
    """
    sizes = sizes or DiTSizes()
    linear = sizes.linear_flop_per_token * num_tokens
    return linear + sizes.attention_flop_per_pair * num_tokens**2
