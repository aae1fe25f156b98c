"""Wan2.1 VAEs on disk: sizes, latent statistics and key names of both layouts."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.checkpoint.layout import CheckpointPaths, Layout, read_json
from model.checkpoint.tensors import PickleSource, TensorSource, open_safetensors
from model.errors import CheckpointError
from model.types import LATENT_CHANNELS, SPATIAL_STRIDE, TEMPORAL_STRIDE

# The published file has no place for these; they are constants of the published code.
LATENTS_MEAN = (
    *(-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508),
    *(0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
)
LATENTS_STD = (
    *(2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743),
    *(3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160),
)

_RENAMED = (
    (r"^quant_conv\.", "conv1."),
    (r"^post_quant_conv\.", "conv2."),
    (r"\.conv_in\.", ".conv1."),
    (r"\.norm_out\.", ".head.0."),
    (r"\.conv_out\.", ".head.2."),
    (r"\.mid_block\.resnets\.0\.", ".middle.0."),
    (r"\.mid_block\.attentions\.0\.", ".middle.1."),
    (r"\.mid_block\.resnets\.1\.", ".middle.2."),
    (r"\.down_blocks\.", ".downsamples."),
    (r"\.norm1\.", ".residual.0."),
    (r"(downsamples|middle|upsamples)\.(\d+)\.conv1\.", r"\1.\2.residual.2."),
    (r"\.norm2\.", ".residual.3."),
    (r"\.conv2\.(?=\w+$)", ".residual.6."),
    (r"\.conv_shortcut\.", ".shortcut."),
)


@dataclass(frozen=True, slots=True)
class VAEConfig:
    """Sizes of one VAE and the statistics its latents are normalised with, one per channel."""

    base_dim: int
    dim_mult: tuple[int, ...]
    num_res_blocks: int
    temporal_downsample: tuple[bool, ...]
    latents_mean: tuple[float, ...] = LATENTS_MEAN
    latents_std: tuple[float, ...] = LATENTS_STD


def open_vae(checkpoint: CheckpointPaths) -> TensorSource:
    """The VAE's tensors, keys as on disk.

    Raises:
        CheckpointError: The file or folder cannot be read.
    """
    if checkpoint.layout is Layout.DIFFUSERS:
        return open_safetensors(checkpoint.vae, "diffusion_pytorch_model")
    return PickleSource(checkpoint.vae)


def read_vae_config(checkpoint: CheckpointPaths, source: TensorSource) -> VAEConfig:
    """Sizes and latent statistics of the VAE.

    Sizes stand in `config.json`, or are read off the published tensors. Statistics stand in
    `config.json`, or beside the published `.pth` in a `.json` of the same stem with
    `latents_mean` and `latents_std`; without one they are the published constants.

    Raises:
        CheckpointError: It is no VAE of the Wan2.1 kind, 16 channels at strides 4, 8, 8.
    """
    if checkpoint.layout is Layout.DIFFUSERS:
        return _from_json(checkpoint.vae / "config.json")
    mean, std = _published_statistics(checkpoint.vae.with_suffix(".json"))
    try:
        sizes = _sizes(source)
        latent_channels = source.shapes["conv2.weight"][0]
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(f"{source.name} is no Wan2.1 VAE: cannot read {error}") from error
    config = VAEConfig(**sizes, latents_mean=mean, latents_std=std)
    return _checked(config, latent_channels, source.name)


def published_vae_key(name: str, config: VAEConfig) -> str:
    """Published key of a parameter of diffusers' `AutoencoderKLWan`."""
    residuals = config.num_res_blocks + 1

    def flat_index(match: re.Match[str]) -> str:
        # Published decoders number residual blocks and upsamplers of all levels in one row.
        within = int(match[3]) if match[2] == "resnets" else residuals
        return f"upsamples.{int(match[1]) * (residuals + 1) + within}"

    name = re.sub(r"up_blocks\.(\d+)\.(resnets|upsamplers)\.(\d+)", flat_index, name)
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def _sizes(source: TensorSource) -> dict[str, Any]:
    shapes = source.shapes
    base_dim = shapes["encoder.conv1.weight"][0]
    rows = sorted({int(k.split(".")[2]) for k in shapes if k.startswith("encoder.downsamples.")})
    resamples = [i for i in rows if f"encoder.downsamples.{i}.resample.1.weight" in shapes]
    ends = [*resamples, rows[-1] + 1]
    widths = [shapes[f"encoder.downsamples.{end - 1}.residual.6.weight"][0] for end in ends]
    return {
        "base_dim": base_dim,
        "dim_mult": tuple(width // base_dim for width in widths),
        "num_res_blocks": ends[0],
        "temporal_downsample": tuple(
            f"encoder.downsamples.{i}.time_conv.weight" in shapes for i in resamples
        ),
    }


def _published_statistics(path: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if not path.is_file():
        return LATENTS_MEAN, LATENTS_STD
    return _statistics(read_json(path), path)


def _statistics(values: dict[str, Any], path: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    try:
        mean = tuple(float(value) for value in values["latents_mean"])
        std = tuple(float(value) for value in values["latents_std"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} lacks numbers for {error}") from error
    if len(mean) != LATENT_CHANNELS or len(std) != LATENT_CHANNELS or min(std) <= 0:
        raise CheckpointError(
            f"{path}: latents_mean and latents_std must be {LATENT_CHANNELS} numbers each, "
            "all latents_std above 0"
        )
    return mean, std


def _from_json(path: Path) -> VAEConfig:
    values = read_json(path)
    mean, std = _statistics(values, path)
    try:
        config = VAEConfig(
            base_dim=int(values["base_dim"]),
            dim_mult=tuple(values["dim_mult"]),
            num_res_blocks=int(values["num_res_blocks"]),
            temporal_downsample=tuple(values["temperal_downsample"]),
            latents_mean=mean,
            latents_std=std,
        )
        latent_channels = int(values["z_dim"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} lacks a usable {error}") from error
    return _checked(config, latent_channels, str(path))


def _checked(config: VAEConfig, latent_channels: int, name: str) -> VAEConfig:
    temporal_stride = 2 ** sum(config.temporal_downsample)
    spatial_stride = 2 ** len(config.temporal_downsample)
    if (latent_channels, temporal_stride, spatial_stride) != (
        LATENT_CHANNELS,
        TEMPORAL_STRIDE,
        SPATIAL_STRIDE,
    ):
        raise CheckpointError(
            f"{name} has {latent_channels} channels at strides {temporal_stride} (time) and "
            f"{spatial_stride} (space); a Wan2.1 VAE has {LATENT_CHANNELS} at "
            f"{TEMPORAL_STRIDE} and {SPATIAL_STRIDE}"
        )
    return config
