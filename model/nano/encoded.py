"""The data as the DiT's training reads it: clips in latent space, encoded as they are rendered.

python -m model.nano encode DATA VAE.pt LATENTS --clips 12000
"""

import functools
import hashlib
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from model.camera import fold, rays, relative_poses, scale_intrinsics
from model.errors import ConfigurationError
from model.image_encoder import normalise_for_clip
from model.nano.autoencoder import VAE
from model.nano.clips import Clip, draw_clip, from_bytes, to_bytes
from model.nano.dataset import (
    TOKENIZER,
    read_shards,
    save_shard,
    shard_path,
    shard_seeds,
    write_shards,
)
from model.nano.paths import INTRINSICS, WALKING_M_PER_S
from model.nano.sizes import NanoSize
from model.nano.tokens import read_tokenizer, tokenize
from model.types import FPS, TEMPORAL_STRIDE, VideoShape

logger = logging.getLogger(__name__)

_CLIPS_AT_ONCE = 20
_STEP_M = WALKING_M_PER_S * TEMPORAL_STRIDE / FPS  # from one latent frame to the next


@dataclass(frozen=True, slots=True)
class EncodedClips:
    """Clips in latent space, on the training's device.

    Args:
        latents: Normalised, bfloat16 [n, 16, f, h, w].
        first_frames: The first frame and grey frames after it, likewise.
        motions: Since the latent frame before, as the model is told; 1 is a step of whoever walks
            without hurry: [n, f, 4, 4].
        half_motions: In the second half of that time, likewise.
        hurried: Whether any of the path is faster than who does not hurry is [n].
        images: First frames as the CLIP tower takes them, bfloat16 [n, 3, S, S].
        tokens: Of the captions, 0 after the end [n, T].
        lengths: Tokens of each caption [n].
        shape: Of the clips.
    """

    latents: Tensor
    first_frames: Tensor
    motions: Tensor
    half_motions: Tensor
    hurried: Tensor
    images: Tensor
    tokens: Tensor
    lengths: Tensor
    shape: VideoShape

    def __len__(self) -> int:
        return len(self.latents)


def encode_clips(
    data: Path,
    vae_file: Path,
    folder: Path,
    size: NanoSize,
    *,
    num_clips: int,
    shape: VideoShape,
    device: torch.device,
    workers: int = 1,
) -> None:
    """Renders the clips of the first seeds and keeps what the VAE makes of them.

    Shards that are there already are kept, if they are of the same VAE.

    Args:
        data: Folder of clips, for its tokenizer.
        vae_file: From `train_vae`.
        folder: Where; it is made.
        size: Of the VAE.
        num_clips: How many.
        shape: Size of each clip.
        device: Where to render and encode.
        workers: Processes that do so.

    Raises:
        ConfigurationError: The folder's clips are of another VAE.
    """
    if not folder.exists():
        shutil.copytree(data / TOKENIZER, folder / TOKENIZER)
    mark, digest = folder / "vae.sha256", hashlib.sha256(vae_file.read_bytes()).hexdigest()
    if mark.exists() and mark.read_text() != digest:
        raise ConfigurationError(f"{folder} holds clips of another VAE than {vae_file}; remove it")
    mark.write_text(digest)
    work = _EncodeShard(folder, vae_file, size, num_clips, shape, device)
    write_shards(work, folder, num_clips, device, workers)


def load_encoded(folder: Path, size: NanoSize, *, device: torch.device) -> EncodedClips:
    """All encoded clips of a folder, on a device.

    Args:
        folder: From `encode_clips`.
        size: Of the image encoder.
        device: Where to keep them.
    """
    parts: dict[str, list[Tensor]] = {}
    captions: list[str] = []
    for tensors, texts in read_shards(folder):
        captions += texts
        images = tensors.pop("images")
        tensors["seen"] = clip_pixels(images.to(device), size.image_size).bfloat16()
        for name, value in tensors.items():
            parts.setdefault(name, []).append(value.to(device))
    whole = {name: torch.cat(values) for name, values in parts.items()}
    tokens, lengths = tokenize(read_tokenizer(folder / TOKENIZER), captions)
    num_frames = (whole["latents"].shape[2] - 1) * TEMPORAL_STRIDE + 1
    return EncodedClips(
        latents=whole["latents"],
        first_frames=whole["first_frames"],
        motions=whole["motions"],
        half_motions=whole["half_motions"],
        hurried=whole["hurried"],
        images=whole["seen"],
        tokens=tokens.to(device),
        lengths=lengths.to(device),
        shape=VideoShape(num_frames, *images.shape[1:3]),
    )


def clip_pixels(images_BHW3: Tensor, side: int) -> Tensor:
    """What `model.image_encoder.ImageEncoder` shows its tower, for several images."""
    pixels = images_BHW3.permute(0, 3, 1, 2).float() / 127.5 - 1
    return normalise_for_clip(
        F.interpolate(pixels, size=(side, side), mode="bicubic", align_corners=False)
    )


def told_motions(poses_F44: Tensor) -> Tensor:
    """What `model.camera.relative_poses` gives, but at a scale that is the same for all clips.

    Of who walks without hurry both are the same; of who hurries steps are longer here.

    Args:
        poses_F44: Of frames at any distance in time, metres.
    """
    motions = relative_poses(poses_F44.float())
    longest = poses_F44[:, :3, 3].diff(dim=0).norm(dim=-1).max().float()
    motions[:, :3, 3] *= longest / _STEP_M
    return motions


def batch_rays(motions_BF44: Tensor, shape: VideoShape) -> Tensor:
    """What `model.camera.camera_condition` gives, for several clips: [B, 384, f, h, w]."""
    intrinsics = scale_intrinsics(torch.tensor(INTRINSICS), shape)
    clips, frames = motions_BF44.shape[:2]
    all_rays = rays(motions_BF44.flatten(0, 1), intrinsics, shape.height, shape.width)
    folded = fold(all_rays).unflatten(1, (clips, frames))
    batched: Tensor = folded.transpose(0, 1)
    return batched


@torch.no_grad()
def encode_batch(vae_file: Path, size: NanoSize, clips: list[Clip]) -> dict[str, Tensor]:
    """What a shard keeps of clips, on their device."""
    bytes_BNHW3 = torch.stack([to_bytes(clip.pixels_3NHW) for clip in clips])
    vae, mean, std = load_vae(vae_file, size, bytes_BNHW3.device)
    pixels = from_bytes(bytes_BNHW3)
    grey = torch.cat([pixels[:, :, :1], torch.zeros_like(pixels[:, :, 1:])], dim=2)
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=pixels.is_cuda):
        latents = [vae.encode(each) for each in (pixels, grey)]
    normal = [((each.float() - mean) / std).to(torch.bfloat16) for each in latents]
    by_half = [told_motions(clip.poses_N44[:: TEMPORAL_STRIDE // 2]) for clip in clips]
    motions = [told_motions(clip.poses_N44[::TEMPORAL_STRIDE]) for clip in clips]
    return {
        "latents": normal[0],
        "first_frames": normal[1],
        "motions": torch.stack(motions),
        "half_motions": torch.stack(by_half)[:, ::2],
        "hurried": torch.tensor([clip.motion.is_hurried for clip in clips]),
        "images": bytes_BNHW3[:, 0],
    }


@functools.cache
def load_vae(file: Path, size: NanoSize, device: torch.device) -> tuple[VAE, Tensor, Tensor]:
    """A trained VAE with mean and standard deviation of its latents, [1, 16, 1, 1, 1] each."""
    stored = torch.load(file, weights_only=True, map_location=device)
    vae = VAE(size).to(device)
    vae.load_state_dict(stored["vae"])
    mean, std = (stored[name].view(1, -1, 1, 1, 1) for name in ("mean", "std"))
    return vae, mean, std


@dataclass(frozen=True, slots=True)
class _EncodeShard:
    """Renders and encodes one shard."""

    folder: Path
    vae_file: Path
    size: NanoSize
    num_clips: int
    shape: VideoShape
    device: torch.device

    def __call__(self, number: int) -> int:
        seeds = list(shard_seeds(number, self.num_clips))
        parts: dict[str, list[Tensor]] = {}
        captions: list[str] = []
        for start in range(0, len(seeds), _CLIPS_AT_ONCE):
            clips = [
                draw_clip(seed, device=self.device, shape=self.shape)
                for seed in seeds[start : start + _CLIPS_AT_ONCE]
            ]
            captions += [clip.caption for clip in clips]
            for name, value in encode_batch(self.vae_file, self.size, clips).items():
                parts.setdefault(name, []).append(value.cpu())
        whole = {name: torch.cat(values).contiguous() for name, values in parts.items()}
        save_shard(shard_path(self.folder, number), whole, captions)
        return number
