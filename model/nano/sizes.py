"""Sizes of the trained checkpoint, and a toy of the same make."""

from dataclasses import dataclass

from transformers import CLIPVisionConfig, UMT5Config

from model.checkpoint.vae import VAEConfig
from model.config import DiTConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class NanoSize:
    """Sizes of every part.

    Args:
        dim: Width of the DiT.
        ffn_dim: Inner width of its feed-forward networks.
        num_heads: Its attention heads.
        num_layers: Its blocks.
        text_dim: Width of the T5 encoder.
        text_layers: Its blocks.
        vocab_size: Largest vocabulary of its tokenizer.
        image_layers: Layers of the CLIP tower that are computed; the file holds one more.
        image_size: Pixels that it sees, a multiple of 14.
        vae_dim: Channels of the VAE's first level.
    """

    dim: int = 160
    ffn_dim: int = 448
    num_heads: int = 4
    num_layers: int = 6
    text_dim: int = 64
    text_layers: int = 3
    vocab_size: int = 768
    image_layers: int = 2
    image_size: int = 112
    vae_dim: int = 16

    @property
    def dit(self) -> DiTConfig:
        return DiTConfig(
            dim=self.dim,
            ffn_dim=self.ffn_dim,
            num_heads=self.num_heads,
            num_layers=self.num_layers,
            text_dim=self.text_dim,
            image_dim=IMAGE_DIM,
        )

    @property
    def vae(self) -> VAEConfig:
        return VAEConfig(
            base_dim=self.vae_dim,
            dim_mult=(1, 2, 4, 4),
            num_res_blocks=2,
            temporal_downsample=(False, True, True),
        )

    def text_encoder(self, vocab_size: int) -> UMT5Config:
        return UMT5Config(
            vocab_size=vocab_size,
            d_model=self.text_dim,
            d_kv=16,
            d_ff=2 * self.text_dim,
            num_layers=self.text_layers,
            num_heads=self.text_dim // 16,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,  # so small a model learns no clip by heart
        )

    @property
    def image_encoder(self) -> CLIPVisionConfig:
        return CLIPVisionConfig(
            hidden_size=IMAGE_DIM,
            intermediate_size=2 * IMAGE_DIM,
            num_hidden_layers=self.image_layers,
            num_attention_heads=1,  # of 80 channels, as in every published tower
            image_size=self.image_size,
            patch_size=14,
            hidden_act="gelu",
        )


IMAGE_DIM = 80
NANO = NanoSize()
TOY = NanoSize(
    dim=32,
    ffn_dim=64,
    num_heads=2,
    num_layers=1,
    text_dim=16,
    text_layers=1,
    vocab_size=300,
    image_layers=1,
    image_size=28,
    vae_dim=4,
)
