"""Layers of the Wan2.1 VAE, for chunks of any length and for compilation in one piece.

The mathematics is that of `wan/modules/vae2_1.py` (Wan-Video/Wan2.2); names of parameters are those
of diffusers' `AutoencoderKLWan`. What is kept between chunks goes in and comes out as tensors, so
that a compiler sees no state, and convolutions pad space themselves instead of copying their input.

Shapes: B batch, C channels, T frames, H and W pixels of the level.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PAST_FRAMES = 2  # what a causal convolution over three frames looks back at

# cuDNN's video kernels come in multiples of this many channels and waste what is between; its image
# kernels do not. On a CPU PyTorch takes oneDNN's kernels for images, and slow ones for one video.
_VIDEO_KERNEL_CHANNELS = 64


class Past:
    """What the causal convolutions of one network have seen, in the order in which they run.

    Args:
        kept: The last two frames of each convolution; empty before the first chunk, where zeros
            stand in for them.
    """

    def __init__(self, kept: Sequence[Tensor]) -> None:
        self._kept = kept
        self.next: list[Tensor] = []

    @property
    def is_empty(self) -> bool:
        """True in the first chunk."""
        return not self._kept

    def extend(self, x_BCTHW: Tensor) -> Tensor:
        """Puts the two frames before a chunk in front of it, and keeps its last two."""
        zero = _blank_frame(x_BCTHW)
        before = (self._kept[len(self.next)],) if self._kept else (zero, zero)
        whole = torch.cat((*before, x_BCTHW), dim=2)
        self.next.append(whole[:, :, -PAST_FRAMES:].clone())
        return whole

    def skip(self, x_BCTHW: Tensor) -> None:
        """Leaves a chunk out of what the next convolution has seen."""
        zero = _blank_frame(x_BCTHW)
        self.next.append(torch.cat((zero, zero), dim=2))


class CausalConv3d(nn.Conv3d):
    """Convolution that looks at a frame and the two before it.

    Args:
        in_channels: Of the input.
        out_channels: Of the result.
        size: Of the kernel in space, odd.
    """

    def __init__(self, in_channels: int, out_channels: int, size: int = 3) -> None:
        kernel = (PAST_FRAMES + 1, size, size)
        super().__init__(in_channels, out_channels, kernel, padding=(0, size // 2, size // 2))

    def run(self, x_BCTHW: Tensor, past: Past) -> Tensor:
        """As many frames as come in."""
        whole = past.extend(x_BCTHW)
        if not whole.is_cuda or self.in_channels % _VIDEO_KERNEL_CHANNELS:
            return convolve_as_images(whole, self.weight, self.bias)
        result: Tensor = self(whole)
        return result


def convolve_as_images(x_BCTHW: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`conv3d` that pads space only, as `conv2d` of images that hold a frame's inputs side by side.

    Args:
        x_BCTHW: Videos.
        weight: [out, C, t, h, w], odd h and w.
        bias: [out].

    Returns:
        Videos of the same size, t - 1 frames shorter.
    """
    _, _, time, height, width = weight.shape
    num_frames = x_BCTHW.shape[2] - time + 1
    inputs = [x_BCTHW[:, :, first : first + num_frames] for first in range(time)]
    images = _fold_time(torch.cat(inputs, dim=1))
    kernel = channels_last(weight.transpose(1, 2).flatten(1, 2))
    result = F.conv2d(images, kernel, bias, padding=(height // 2, width // 2))
    return _unfold_time(result, x_BCTHW.shape[0])


class ChannelNorm(nn.Module):
    """RMS norm over channels, float32 inside.

    Args:
        dim: Channels.
        spread: Dimensions after the channels that the weights name.
    """

    def __init__(self, dim: int, spread: int = 3) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim, *(1,) * spread))
        self._scale = dim**0.5

    def forward(self, x: Tensor) -> Tensor:
        normalised: Tensor = F.normalize(x.float(), dim=1) * (self._scale * self.gamma.float())
        return normalised.to(x.dtype)


class ResidualBlock(nn.Module):
    """Twice norm, SiLU and convolution, beside a straight way."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(in_dim)
        self.conv1 = CausalConv3d(in_dim, out_dim)
        self.norm2 = ChannelNorm(out_dim)
        self.conv2 = CausalConv3d(out_dim, out_dim)
        same = in_dim == out_dim
        self.conv_shortcut = nn.Identity() if same else nn.Conv3d(in_dim, out_dim, 1)

    def forward(self, x_BCTHW: Tensor, past: Past) -> Tensor:
        shortcut: Tensor = self.conv_shortcut(x_BCTHW)
        hidden = self.conv1.run(F.silu(self.norm1(x_BCTHW)), past)
        return shortcut + self.conv2.run(F.silu(self.norm2(hidden)), past)


class AttentionBlock(nn.Module):
    """Self-attention of one head among the pixels of each frame."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(dim, spread=2)
        self.to_qkv = nn.Conv2d(dim, 3 * dim, 1)
        self.proj = nn.Conv2d(dim, dim, 1)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        frames = _fold_time(x_BCTHW)
        qkv = self.to_qkv(self.norm(frames)).flatten(2).transpose(1, 2)[:, None].contiguous()
        query, key, value = qkv.chunk(3, dim=-1)
        attended = F.scaled_dot_product_attention(query, key, value)[:, 0].transpose(1, 2)
        projected = self.proj(attended.reshape(frames.shape))
        return x_BCTHW + _unfold_time(projected, x_BCTHW.shape[0])


class Upsample(nn.Module):
    """Twice the height and width, and twice the frames where asked; half the channels.

    Args:
        dim: Channels of the input.
        temporal: Whether frames are doubled; the first frame of a clip never is.
    """

    def __init__(self, dim: int, temporal: bool) -> None:
        super().__init__()
        self.resample = nn.ModuleList([nn.Identity(), nn.Conv2d(dim, dim // 2, 3, padding=1)])
        self.time_conv = CausalConv3d(dim, 2 * dim, size=1) if temporal else None

    def forward(self, x_BCTHW: Tensor, past: Past) -> Tensor:
        if self.time_conv is not None:
            if past.is_empty:
                past.skip(x_BCTHW)
            else:
                x_BCTHW = _interleave(self.time_conv.run(x_BCTHW, past))
        frames = _fold_time(x_BCTHW)
        size = [2 * extent for extent in frames.shape[2:]]  # a factor would be a float to compilers
        doubled = F.interpolate(frames, size=size, mode="nearest-exact")
        return _unfold_time(self.resample[1](doubled), x_BCTHW.shape[0])


class Downsample(nn.Module):
    """Half the height and width, and half the frames where asked.

    Args:
        dim: Channels.
        temporal: Whether frames are halved; the first frame of a clip always stays.
    """

    def __init__(self, dim: int, temporal: bool) -> None:
        super().__init__()
        # Published models pad to the right and below only.
        self.resample = nn.ModuleList([nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(dim, dim, 3, 2)])
        self.time_conv = nn.Conv3d(dim, dim, (3, 1, 1), (2, 1, 1)) if temporal else None

    def forward(self, x_BCTHW: Tensor, past: Past) -> Tensor:
        frames = self.resample[1](self.resample[0](_fold_time(x_BCTHW)))
        halved = _unfold_time(frames, x_BCTHW.shape[0])
        if self.time_conv is None:
            return halved
        whole = past.extend(halved)
        result: Tensor = halved if past.is_empty else self.time_conv(whole[:, :, 1:])
        return result


def channels_last(x: Tensor) -> Tensor:
    """The same images or videos with their channels innermost, as the fast GPU kernels read them.

    Tensors of the CPU stay as they are.
    """
    if not x.is_cuda or x.ndim not in (4, 5):
        return x
    is_video = x.ndim == 5
    return x.contiguous(memory_format=torch.channels_last_3d if is_video else torch.channels_last)


def _interleave(x_BCTHW: Tensor) -> Tensor:
    """The two halves of the channels as every second frame."""
    first, second = x_BCTHW.chunk(2, dim=1)
    return torch.stack((first, second), dim=3).flatten(2, 3)


def _blank_frame(x_BCTHW: Tensor) -> Tensor:
    return torch.zeros_like(x_BCTHW[:, :, :1])


def _fold_time(x_BCTHW: Tensor) -> Tensor:
    return x_BCTHW.transpose(1, 2).flatten(0, 1)


def _unfold_time(x_NCHW: Tensor, batch: int) -> Tensor:
    unfolded: Tensor = x_NCHW.unflatten(0, (batch, -1))
    return unfolded.transpose(1, 2)
