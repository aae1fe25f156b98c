"""The data as the DiT's training reads it: encoded once, kept on the device."""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from model.camera import fold, rays, relative_poses, scale_intrinsics
from model.nano.dataset import TOKENIZER, shards
from model.nano.paths import INTRINSICS
from model.nano.vae_training import VAE
from model.tokenizer import PromptTokenizer
from model.types import TEMPORAL_STRIDE, VideoShape

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EncodedClips:
    """Clips in latent space, on the training's device.

    Args:
        latents: Normalised, bfloat16 [n, 16, f, h, w].
        first_frames: The first frame and grey frames after it, likewise.
        motions: From each latent frame to the next, as the model is told: [n, f, 4, 4].
        images: First frames, uint8 [n, H, W, 3].
        tokens: Of the captions, 0 after the end [n, S].
        lengths: Tokens of each caption [n].
    """

    latents: Tensor
    first_frames: Tensor
    motions: Tensor
    images: Tensor
    tokens: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.latents)

    @property
    def shape(self) -> VideoShape:
        frames = (self.latents.shape[2] - 1) * TEMPORAL_STRIDE + 1
        return VideoShape(frames, self.images.shape[1], self.images.shape[2])


@torch.no_grad()
def encode_clips(
    data: Path, vae: VAE, mean: Tensor, std: Tensor, *, device: torch.device, batch: int = 32
) -> EncodedClips:
    """Runs all clips through the VAE and the tokenizer.

    Args:
        data: Folder of clips.
        vae: Trained.
        mean: Of its latents, by channel.
        std: Likewise.
        device: Where the result is kept.
        batch: Clips at once.
    """
    scale = (mean.view(1, -1, 1, 1, 1).to(device), std.view(1, -1, 1, 1, 1).to(device))
    latents, first_frames, motions, images, captions = [], [], [], [], []
    for shard in shards(data):
        for pixels, poses in zip(
            shard.pixels_BNHW3.split(batch), shard.poses_BN44.split(batch), strict=True
        ):
            clip = pixels.to(device).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
            grey = torch.cat([clip[:, :, :1], torch.zeros_like(clip[:, :, 1:])], dim=2)
            latents.append(_encode(vae, clip, scale))
            first_frames.append(_encode(vae, grey, scale))
            motions += [relative_poses(p[::TEMPORAL_STRIDE].float()) for p in poses]
            images.append(pixels[:, 0])
        captions += shard.captions
        logger.info("encoded %d clips", len(captions))
    tokens, lengths = tokenize(data / TOKENIZER, captions)
    return EncodedClips(
        torch.cat(latents),
        torch.cat(first_frames),
        torch.stack(motions).to(device),
        torch.cat(images).to(device),
        tokens.to(device),
        lengths.to(device),
    )


def tokenize(folder: Path, captions: list[str]) -> tuple[Tensor, Tensor]:
    """Token numbers [n, S], 0 after the end, and each caption's length [n]."""
    tokenizer = PromptTokenizer.read(folder / "tokenizer.json")
    rows = [torch.tensor(tokenizer.encode(text)) for text in captions]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return padded, torch.tensor([len(row) for row in rows])


def batch_rays(motions_BF44: Tensor, shape: VideoShape) -> Tensor:
    """What `model.camera.camera_condition` gives, for several clips: [B, 384, f, h, w]."""
    intrinsics = scale_intrinsics(torch.tensor(INTRINSICS), shape)
    clips, frames = motions_BF44.shape[:2]
    all_rays = rays(motions_BF44.flatten(0, 1), intrinsics, shape.height, shape.width)
    folded = fold(all_rays).unflatten(1, (clips, frames))
    batched: Tensor = folded.transpose(0, 1)
    return batched


def _encode(vae: VAE, clip: Tensor, scale: tuple[Tensor, Tensor]) -> Tensor:
    with torch.autocast(clip.device.type, torch.bfloat16, enabled=clip.is_cuda):
        latent = vae.encode(clip)
    normalised: Tensor = (latent.float() - scale[0]) / scale[1]
    return normalised.to(torch.bfloat16)
