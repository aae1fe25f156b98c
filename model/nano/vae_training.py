"""Training of the VAE: both halves at once, on rendered clips, for the smallest squared error.

python -m model.nano vae DATA OUT.pt
"""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from model.nano.autoencoder import VAE, psnr_of
from model.nano.clips import VALIDATION_FROM, draw_clip, from_bytes, to_bytes
from model.nano.dataset import shards
from model.nano.sizes import NanoSize
from model.nano.training import Keeping, Loop, decaying_groups, hardware
from model.types import VideoShape

logger = logging.getLogger(__name__)

# Noise on the latents, as a share of each channel's spread in the batch: what the DiT gets wrong a
# little must change the picture a little, and larger latents must not be a way around that.
_LATENT_NOISE = 0.03
_LATENT_PULL = 1e-5
# The first frame is the image of the request, and one of many.
_FIRST_FRAME_WEIGHT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class VAETraining:
    """How the VAE is trained.

    Args:
        steps: Batches.
        batch: Clips of each.
        frames: Of each clip, cut out anywhere, 4n+1.
        learning_rate: At its highest.
        max_clips: Of the data, kept on the device.
        validated: Clips, never trained on, on which it is judged in the end.
        compiled: Run it through torch.compile.
        log_every: Steps between two lines in the log.
        seed: Of weights, cuts and noise.
    """

    steps: int = 5000
    batch: int = 4
    frames: int = 33
    learning_rate: float = 1.5e-3
    max_clips: int = 5000
    validated: int = 32
    compiled: bool = False
    log_every: int = 100
    seed: int = 0


def train_vae(
    data: Path,
    out: Path,
    size: NanoSize,
    training: VAETraining,
    *,
    device: torch.device,
    keeping: Keeping,
) -> float:
    """Trains a VAE and writes its running average, with the statistics of its latents.

    Args:
        data: Folder of clips.
        out: File to write.
        size: How large.
        training: How.
        device: Where.
        keeping: How it is kept safe.

    Returns:
        PSNR of the running average on clips that it never saw, dB.

    Raises:
        StoppedEarly: The time was up.
    """
    torch.manual_seed(training.seed)
    vae = VAE(size).to(device)
    pixels = _load_pixels(data, training.max_clips, device)
    groups = decaying_groups(list(vae.parameters()), training.learning_rate, 1e-4)
    loop = Loop(
        vae,
        [torch.optim.AdamW(groups, betas=(0.9, 0.99), fused=device.type == "cuda")],
        steps=training.steps,
        warm_up=0.05,
        decay=0.998,
        file=out,
        keeping=keeping,
    )
    losses = torch.compile(_losses, dynamic=False) if training.compiled else _losses
    error = torch.ones((), device=device)
    for step in loop:
        squared = _backward(losses, vae, _cut(pixels, training))
        error = error.lerp(squared, max(0.02, 1 / (step + 1)))
        if step % training.log_every == 0 or step == training.steps - 1:
            decibels = psnr_of(float(error))
            logger.info("vae step %d: %.2f dB, %.0f s", step, decibels, loop.seconds)
    best = loop.average.module
    assert isinstance(best, VAE)
    mean, std = _statistics(best, pixels, training)
    reached = _validate(best, training.validated, pixels)
    facts = {"training": asdict(training), "seconds": loop.seconds, "hardware": hardware(device)}
    stored = {"vae": best.state_dict(), "mean": mean, "std": std, "psnr_db": reached, **facts}
    torch.save(stored, out)
    loop.finish()
    return reached


def _losses(vae: VAE, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """What is minimised, and the mean squared error."""
    latent = vae.encode(pixels)
    spread = latent.detach().float().std((0, 2, 3, 4), keepdim=True)
    noise = _LATENT_NOISE * spread * torch.randn_like(latent)
    shown = vae.decode(latent + noise.to(latent.dtype)).float()
    by_frame = (shown - pixels).square().mean((0, 1, 3, 4))
    weights = torch.ones_like(by_frame)
    weights[0] = _FIRST_FRAME_WEIGHT
    pull = _LATENT_PULL * latent.float().square().mean()
    return (weights * by_frame).sum() / weights.sum() + pull, by_frame.mean().detach()


def _backward(
    losses: Callable[[VAE, Tensor], tuple[Tensor, Tensor]], vae: VAE, pixels: Tensor
) -> Tensor:
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=pixels.is_cuda):
        loss, squared = losses(vae, pixels)
    loss.backward()
    return squared


def _load_pixels(data: Path, max_clips: int, device: torch.device) -> Tensor:
    """uint8 [clips, N, H, W, 3] on the device."""
    parts: list[Tensor] = []
    for shard in shards(data):
        parts.append(shard.pixels_BNHW3.to(device))
        if sum(map(len, parts)) >= max_clips:
            break
    return torch.cat(parts)[:max_clips]


def _cut(pixels: Tensor, training: VAETraining) -> Tensor:
    """A batch [B, 3, frames, H, W] in [-1, 1]."""
    clips = torch.randint(len(pixels), (training.batch,)).tolist()
    last = pixels.shape[1] - training.frames
    starts = torch.randint(last + 1, (training.batch,)).tolist()
    cut = [pixels[c, s : s + training.frames] for c, s in zip(clips, starts, strict=True)]
    return from_bytes(torch.stack(cut))


@torch.no_grad()
def _statistics(vae: VAE, pixels: Tensor, training: VAETraining) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each latent channel."""
    parts = pixels[:256].split(training.batch)
    latents = torch.cat([vae.encode(from_bytes(part)) for part in parts])
    flat = latents.transpose(0, 1).flatten(1)
    return flat.mean(1).cpu(), flat.std(1).cpu()


@torch.no_grad()
def _validate(vae: VAE, count: int, pixels: Tensor) -> float:
    """Mean PSNR of whole clips that are not in the data."""
    shape = VideoShape(*pixels.shape[1:4])
    decibels = []
    for seed in range(VALIDATION_FROM, VALIDATION_FROM + count):
        clip = to_bytes(draw_clip(seed, device=pixels.device, shape=shape).pixels_3NHW)
        wanted = from_bytes(clip.unsqueeze(0))
        shown = vae.decode(vae.encode(wanted)).clamp(-1, 1)
        decibels.append(psnr_of(float(F.mse_loss(shown, wanted))))
    return sum(decibels) / len(decibels)
