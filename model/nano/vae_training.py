"""Training of the VAE: both halves at once, on rendered clips, for the smallest squared error.

python -m model.nano vae DATA OUT.pt
"""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.nano.dataset import shards
from model.nano.sizes import NanoSize
from model.vae_network import DecoderHalf, EncoderHalf

logger = logging.getLogger(__name__)

# Noise on the latents, and a pull towards small ones: what the DiT gets wrong a little must
# change the picture a little.
_LATENT_NOISE = 0.05
_LATENT_PULL = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class VAETraining:
    """How the VAE is trained.

    Args:
        steps: Batches.
        batch: Clips of each.
        frames: Of each clip, cut out anywhere, 4n+1.
        learning_rate: At its highest.
        max_clips: Of the data, kept on the device.
        log_every: Steps between two lines in the log.
        seed: Of weights, cuts and noise.
    """

    steps: int = 4000
    batch: int = 16
    frames: int = 17
    learning_rate: float = 2e-3
    max_clips: int = 4000
    log_every: int = 100
    seed: int = 0


class VAE(nn.Module):
    """The two halves, for clips whole in memory."""

    def __init__(self, size: NanoSize) -> None:
        super().__init__()
        self.encoder = EncoderHalf(size.vae)
        self.decoder = DecoderHalf(size.vae)

    def encode(self, pixels_B3NHW: Tensor) -> Tensor:
        """Raw latents [B, 16, f, h, w] of pixels in [-1, 1]."""
        first: Tensor
        first, kept = self.encoder(pixels_B3NHW[:, :, :1], ())
        if pixels_B3NHW.shape[2] == 1:
            return first
        rest, _ = self.encoder(pixels_B3NHW[:, :, 1:], kept)
        return torch.cat([first, rest], dim=2)

    def decode(self, latent_BCfhw: Tensor) -> Tensor:
        """Pixels [B, 3, N, H, W] about [-1, 1] of raw latents."""
        first, kept = self.decoder(latent_BCfhw[:, :, :1], ())
        rest, _ = self.decoder(latent_BCfhw[:, :, 1:], kept)
        return torch.cat([first, rest], dim=2)


def train_vae(
    data: Path, out: Path, size: NanoSize, training: VAETraining, *, device: torch.device
) -> float:
    """Trains a VAE and writes it, with the statistics of its latents.

    Args:
        data: Folder of clips.
        out: File to write.
        size: How large.
        training: How.
        device: Where.

    Returns:
        PSNR of the last batches, dB.
    """
    generator = torch.Generator().manual_seed(training.seed)
    torch.manual_seed(training.seed)
    vae = VAE(size).to(device)
    pixels = _load_pixels(data, training.max_clips, device)
    optimizer = torch.optim.AdamW(vae.parameters(), training.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, training.learning_rate, total_steps=training.steps, pct_start=0.05
    )
    averaged = torch.optim.swa_utils.AveragedModel(
        vae, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998)
    )
    start_s, error = time.perf_counter(), torch.ones((), device=device)
    for step in range(training.steps):
        batch = _cut(pixels, training, generator)
        squared = _train_step(vae, batch, optimizer)
        schedule.step()
        averaged.update_parameters(vae)
        error = error * 0.98 + squared * 0.02 if step else squared
        if step % training.log_every == 0 or step == training.steps - 1:
            seconds = time.perf_counter() - start_s
            logger.info("vae step %d: %.2f dB, %.0f s", step, psnr_of(float(error)), seconds)
    best = averaged.module
    assert isinstance(best, VAE)
    mean, std = _statistics(best, pixels, training)
    torch.save({"vae": best.state_dict(), "mean": mean, "std": std}, out)
    return psnr_of(float(error))


def psnr_of(squared_error: float) -> float:
    """dB, of the mean squared error of pixels in [-1, 1]."""
    return float(10 * torch.log10(torch.tensor(4.0 / max(squared_error, 1e-12))))


def _train_step(vae: VAE, pixels: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=pixels.is_cuda):
        latent = vae.encode(pixels)
        shown = vae.decode(latent + _LATENT_NOISE * torch.randn_like(latent))
    squared = F.mse_loss(shown.float(), pixels)
    loss = squared + 0.05 * F.l1_loss(shown.float(), pixels)
    optimizer.zero_grad(set_to_none=True)
    (loss + _LATENT_PULL * latent.float().square().mean()).backward()
    nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
    optimizer.step()
    return squared.detach()


def _load_pixels(data: Path, max_clips: int, device: torch.device) -> Tensor:
    """uint8 [clips, N, H, W, 3] on the device."""
    parts: list[Tensor] = []
    for shard in shards(data):
        parts.append(shard.pixels_BNHW3.to(device))
        if sum(map(len, parts)) >= max_clips:
            break
    return torch.cat(parts)[:max_clips]


def _cut(pixels: Tensor, training: VAETraining, generator: torch.Generator) -> Tensor:
    """A batch [B, 3, frames, H, W] in [-1, 1]."""
    clips = torch.randint(len(pixels), (training.batch,), generator=generator).tolist()
    last = pixels.shape[1] - training.frames
    starts = torch.randint(last + 1, (training.batch,), generator=generator).tolist()
    cut = [pixels[c, s : s + training.frames] for c, s in zip(clips, starts, strict=True)]
    return torch.stack(cut).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


@torch.no_grad()
def _statistics(vae: VAE, pixels: Tensor, training: VAETraining) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each latent channel."""
    batches = [
        vae.encode(part.permute(0, 4, 1, 2, 3).float() / 127.5 - 1)
        for part in pixels[: 16 * training.batch].split(training.batch)
    ]
    latents = torch.cat(batches).transpose(0, 1).flatten(1)
    return latents.mean(1).cpu(), latents.std(1).cpu()
