"""The two halves of the Wan2.1 VAE, each a function of a chunk and of what came before it."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from model.checkpoint.vae import VAEConfig
from model.types import LATENT_CHANNELS
from model.vae_layers import (
    AttentionBlock,
    CausalConv3d,
    ChannelNorm,
    Downsample,
    Past,
    ResidualBlock,
    Upsample,
)


class MidBlock(nn.Module):
    """Attention between two residual blocks."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([AttentionBlock(dim)])
        self.resnets = nn.ModuleList([ResidualBlock(dim, dim), ResidualBlock(dim, dim)])

    def forward(self, x_BCTHW: Tensor, past: Past) -> Tensor:
        attended = self.attentions[0](self.resnets[0](x_BCTHW, past))
        result: Tensor = self.resnets[1](attended, past)
        return result


class Encoder(nn.Module):
    """Pixels to moments; frames before a chunk are all that it depends on."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        dim = config.base_dim
        self.conv_in = CausalConv3d(3, dim)
        self.down_blocks = nn.ModuleList()
        for level, multiple in enumerate(config.dim_mult):
            for _ in range(config.num_res_blocks):
                self.down_blocks.append(ResidualBlock(dim, config.base_dim * multiple))
                dim = config.base_dim * multiple
            if level < len(config.temporal_downsample):
                self.down_blocks.append(Downsample(dim, config.temporal_downsample[level]))
        self.mid_block = MidBlock(dim)
        self.norm_out = ChannelNorm(dim)
        self.conv_out = CausalConv3d(dim, 2 * LATENT_CHANNELS)

    def forward(self, x_BCTHW: Tensor, past: Past) -> Tensor:
        x_BCTHW = self.conv_in.run(x_BCTHW, past)
        for block in self.down_blocks:
            x_BCTHW = block(x_BCTHW, past)
        hidden = self.norm_out(self.mid_block(x_BCTHW, past))
        return self.conv_out.run(F.silu(hidden), past)


class EncoderHalf(nn.Module):
    """The encoder before the convolution that the VAE puts behind it."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.quant_conv = nn.Conv3d(2 * LATENT_CHANNELS, 2 * LATENT_CHANNELS, 1)

    def forward(self, pixels: Tensor, kept: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """One chunk of a clip.

        Args:
            pixels: [1, 3, t, H, W]; the first chunk of a clip must be one frame, later ones
                multiples of four.
            kept: Second result of the chunk before; empty for the first.

        Returns:
            Latent means [1, 16, 1 or t / 4, h, w], and what to pass on.
        """
        past = Past(kept)
        moments: Tensor = self.quant_conv(self.encoder(pixels, past))
        return moments[:, :LATENT_CHANNELS], past.next


class UpBlock(nn.Module):
    """One level: residual blocks, and an upsampler unless it is the last."""

    def __init__(self, in_dim: int, out_dim: int, num_blocks: int, upsample: Upsample | None):
        super().__init__()
        blocks = [ResidualBlock(in_dim if i == 0 else out_dim, out_dim) for i in range(num_blocks)]
        self.resnets = nn.ModuleList(blocks)
        self.upsamplers = nn.ModuleList([] if upsample is None else [upsample])

    def forward(self, x_BCTHW: Tensor, past: Past) -> Tensor:
        for layer in (*self.resnets, *self.upsamplers):
            x_BCTHW = layer(x_BCTHW, past)
        return x_BCTHW


class Decoder(nn.Module):
    """Latents to pixels; frames before a chunk are all that it depends on."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        dims = [config.base_dim * multiple for multiple in reversed(config.dim_mult)]
        temporal = list(reversed(config.temporal_downsample))
        self.conv_in = CausalConv3d(LATENT_CHANNELS, dims[0])
        self.mid_block = MidBlock(dims[0])
        self.up_blocks = nn.ModuleList()
        in_dim = dims[0]
        for level, dim in enumerate(dims):
            upsample = Upsample(dim, temporal[level]) if level < len(temporal) else None
            self.up_blocks.append(UpBlock(in_dim, dim, config.num_res_blocks + 1, upsample))
            in_dim = dim // 2
        self.norm_out = ChannelNorm(dims[-1])
        self.conv_out = CausalConv3d(dims[-1], 3)

    def forward(self, x_BCTHW: Tensor, past: Past) -> Tensor:
        x_BCTHW = self.mid_block(self.conv_in.run(x_BCTHW, past), past)
        for block in self.up_blocks:
            x_BCTHW = block(x_BCTHW, past)
        return self.conv_out.run(F.silu(self.norm_out(x_BCTHW)), past)


class DecoderHalf(nn.Module):
    """The decoder behind the convolution that the VAE puts in front of it."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.post_quant_conv = nn.Conv3d(LATENT_CHANNELS, LATENT_CHANNELS, 1)
        self.decoder = Decoder(config)

    def forward(self, latent: Tensor, kept: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """One chunk of a clip.

        Args:
            latent: [1, 16, t, h, w]; the first chunk of a clip must be one latent frame.
            kept: Second result of the chunk before; empty for the first.

        Returns:
            Pixels [1, 3, T, H, W], T = 1 for the first chunk and then 4t, and what to pass on.
        """
        past = Past(kept)
        pixels: Tensor = self.decoder(self.post_quant_conv(latent), past)
        return pixels, past.next
