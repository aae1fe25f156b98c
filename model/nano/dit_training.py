"""Training of both experts with the text and image encoders, by flow matching.

    python -m model.nano dit DATA VAE.pt OUT.pt

Flow matching as the published models have it: a sample at noise level s is s*noise + (1-s)*clip,
the model is told 1000*s and predicts noise - clip (arXiv 2210.02747), levels are drawn evenly
before the published shift (arXiv 2403.03206). Each expert sees its side of the boundary alone.
"""

import itertools
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPVisionModel, UMT5EncoderModel

from model.attention import sdpa
from model.dit import DiT
from model.image_encoder import normalise_for_clip
from model.nano.dataset import TOKENIZER
from model.nano.encoded import EncodedClips, batch_rays, encode_clips, tokenize
from model.nano.sizes import NanoSize
from model.nano.vae_training import VAE
from model.parallel.sequence import NoSequenceParallel
from model.prompts import DEFAULT_NEGATIVE_PROMPT
from model.scheduler import NUM_TRAIN_TIMESTEPS
from model.tokenizer import PromptTokenizer
from model.types import TEMPORAL_STRIDE

logger = logging.getLogger(__name__)

FLOW_SHIFT = 10.0
BOUNDARY = 0.947


@dataclass(frozen=True, slots=True, kw_only=True)
class DiTTraining:
    """How the experts are trained.

    Args:
        steps: Batches.
        batch: Clips that each expert sees in one.
        learning_rate: At its highest.
        drop_text: Share of clips that are shown with the negative prompt.
        compiled: Run the experts through torch.compile.
        log_every: Steps between two lines in the log.
        seed: Of weights, batches and noise.
    """

    steps: int = 10_000
    batch: int = 64
    learning_rate: float = 1.5e-3
    drop_text: float = 0.12
    compiled: bool = False
    log_every: int = 100
    seed: int = 0


class WorldModel(nn.Module):
    """Everything that is trained together."""

    def __init__(self, size: NanoSize, vocab_size: int) -> None:
        super().__init__()
        self.high_noise = _expert(size)
        self.low_noise = _expert(size)
        self.text_encoder = UMT5EncoderModel(size.text_encoder(vocab_size))
        self.image_encoder = CLIPVisionModel(size.image_encoder)


def train_dit(
    data: Path,
    vae_file: Path,
    out: Path,
    size: NanoSize,
    training: DiTTraining,
    *,
    device: torch.device,
) -> float:
    """Trains the experts and writes their running average.

    Args:
        data: Folder of clips.
        vae_file: From `train_vae`.
        out: File to write.
        size: How large.
        training: How.
        device: Where.

    Returns:
        The last batches' mean squared error, of the low-noise expert.
    """
    torch.manual_seed(training.seed)
    stored = torch.load(vae_file, weights_only=True)
    vae = VAE(size).to(device)
    vae.load_state_dict(stored["vae"])
    clips = encode_clips(data, vae, stored["mean"], stored["std"], device=device)
    vocab_size = PromptTokenizer.read(data / TOKENIZER / "tokenizer.json").vocab_size
    model = WorldModel(size, vocab_size).to(device)
    averaged = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.999)
    )
    optimizer = torch.optim.AdamW(_groups(model), training.learning_rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, training.learning_rate, total_steps=training.steps, pct_start=0.04
    )
    negative, _ = tokenize(data / TOKENIZER, [DEFAULT_NEGATIVE_PROMPT])
    trainer = _Trainer(model, clips, negative.to(device), size, training)
    start_s, errors = time.perf_counter(), torch.ones(2, device=device)
    for step in range(training.steps):
        squared = trainer.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        averaged.update_parameters(model)
        errors = errors * 0.99 + squared * 0.01 if step else squared
        if step % training.log_every == 0 or step == training.steps - 1:
            high, low = errors.tolist()
            seconds = time.perf_counter() - start_s
            logger.info("dit step %d: high %.4f, low %.4f, %.0f s", step, high, low, seconds)
    torch.save({"model": averaged.module.state_dict(), "vocab_size": vocab_size}, out)
    return float(errors[1])


def noise_levels(count: int, expert: int, *, device: torch.device) -> Tensor:
    """Shifted noise levels of one expert's side of the boundary, spread evenly.

    Args:
        count: How many.
        expert: 0 for high noise, 1 for low.
        device: Where.
    """
    border = BOUNDARY / (FLOW_SHIFT - (FLOW_SHIFT - 1) * BOUNDARY)  # before the shift
    even = (torch.arange(count, device=device) + torch.rand(count, device=device)) / count
    level = border + (1 - border) * even if expert == 0 else border * even
    return FLOW_SHIFT * level / (1 + (FLOW_SHIFT - 1) * level)


class _Trainer:
    """One training step after the other."""

    def __init__(
        self,
        model: WorldModel,
        clips: EncodedClips,
        negative: Tensor,
        size: NanoSize,
        training: DiTTraining,
    ) -> None:
        self._model, self._clips, self._negative = model, clips, negative
        self._size, self._training = size, training
        self._order = _shuffled(len(clips), training.batch, training.seed)
        self._forward = DiT.forward_batch
        if training.compiled:
            self._forward = torch.compile(DiT.forward_batch, dynamic=False)

    def backward(self) -> Tensor:
        """Gradients of one batch for each expert; returns their squared errors [2]."""
        squared = []
        for number, expert in enumerate((self._model.high_noise, self._model.low_noise)):
            chosen = next(self._order).to(self._clips.latents.device)
            loss = self._loss(expert, number, chosen)
            loss.backward()
            squared.append(loss.detach())
        return torch.stack(squared)

    def _loss(self, expert: DiT, number: int, chosen: Tensor) -> Tensor:
        clips = self._clips
        latent = clips.latents[chosen].float()
        level = noise_levels(len(chosen), number, device=latent.device)
        noise = torch.randn_like(latent)
        share = level.view(-1, 1, 1, 1, 1)
        with torch.autocast(latent.device.type, torch.bfloat16, enabled=latent.is_cuda):
            flow = self._forward(
                expert,
                share * noise + (1 - share) * latent,
                (level * NUM_TRAIN_TIMESTEPS).floor(),
                _with_mask(clips.first_frames[chosen].float()),
                batch_rays(clips.motions[chosen], clips.shape),
                self._text(chosen),
                self._image(chosen),
            )
        return F.mse_loss(flow.float(), noise - latent)

    def _text(self, chosen: Tensor) -> Tensor:
        """T5 rows, zero after each prompt's end; some clips get the negative prompt."""
        tokens, lengths = self._clips.tokens[chosen], self._clips.lengths[chosen]
        rows = _encode_text(self._model.text_encoder, tokens, lengths)
        negative = torch.full((1,), self._negative.shape[1], device=tokens.device)
        unwanted = _encode_text(self._model.text_encoder, self._negative, negative)
        text_len = self._size.dit.text_len
        rows, unwanted = (F.pad(x, (0, 0, 0, text_len - x.shape[1])) for x in (rows, unwanted))
        drop = torch.rand(len(chosen), device=tokens.device) < self._training.drop_text
        return torch.where(drop.view(-1, 1, 1), unwanted, rows)

    def _image(self, chosen: Tensor) -> Tensor:
        pixels = self._clips.images[chosen].permute(0, 3, 1, 2).float() / 127.5 - 1
        square = (self._size.image_size,) * 2
        resized = F.interpolate(pixels, size=square, mode="bicubic", align_corners=False)
        hidden: Tensor = self._model.image_encoder(
            pixel_values=normalise_for_clip(resized)
        ).last_hidden_state
        return hidden


def _encode_text(encoder: nn.Module, tokens: Tensor, lengths: Tensor) -> Tensor:
    is_token = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
    hidden = encoder(input_ids=tokens, attention_mask=is_token.long()).last_hidden_state
    masked: Tensor = hidden * is_token.unsqueeze(-1)
    return masked


def _with_mask(first_frames: Tensor) -> Tensor:
    """What `model.denoiser.first_frame_condition` gives, for several clips."""
    clips, _, *grid = first_frames.shape
    mask = torch.zeros(clips, TEMPORAL_STRIDE, *grid, device=first_frames.device)
    mask[:, :, 0] = 1
    return torch.cat([mask, first_frames], dim=1)


def _expert(size: NanoSize) -> DiT:
    """An expert that at first listens to neither camera nor timestep, and predicts nothing."""
    dit = DiT(size.dit, sequence=NoSequenceParallel(), attention=sdpa)
    for block in dit.blocks:
        nn.init.normal_(block.modulation, std=1 / math.sqrt(size.dim))
        for linear in (block.cam_scale_layer, block.cam_shift_layer):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
    nn.init.normal_(dit.head.modulation, std=1 / math.sqrt(size.dim))
    nn.init.zeros_(dit.head.head.weight)
    nn.init.zeros_(dit.head.head.bias)
    return dit


def _groups(model: nn.Module) -> list[dict[str, object]]:
    """Matrices decay, the rest does not."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]


def _shuffled(count: int, batch: int, seed: int) -> Iterator[Tensor]:
    """Batches of numbers below `count`, each number once before any comes again."""
    for epoch in itertools.count():
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        order = torch.randperm(count, generator=generator)
        yield from order[: max(count // batch, 1) * batch].split(batch)
