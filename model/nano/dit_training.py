"""Training of both experts with the text and image encoders, by flow matching.

    python -m model.nano dit LATENTS OUT.pt

Flow matching as the published models have it: a sample at noise level s is s*noise + (1-s)*clip,
the model is told 1000*s and predicts noise - clip (arXiv 2210.02747).
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.compilation import compile_blocks
from model.nano.dataset import TOKENIZER, read_facts
from model.nano.encoded import EncodedClips, batch_rays, load_encoded
from model.nano.noise import HIGH, LOW, noise_levels
from model.nano.sizes import NanoSize
from model.nano.tokens import NEGATIVE_PROMPT, read_tokenizer, tokenize
from model.nano.training import Keeping, Loop, decaying_groups, hardware, shuffled
from model.nano.world_model import WorldModel, with_mask
from model.patches import PATCH
from model.rope import RotaryTable, rotary_table
from model.types import NUM_TRAIN_TIMESTEPS, VideoShape

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiTTraining:
    """How the experts are trained.

    Args:
        steps: Batches.
        batch: Clips of each; both experts see them, each at noise levels of its own.
        learning_rate: At its highest.
        camera_share: Of that, for the layers that read the rays: their 1536 inputs move together,
            so that a step of theirs is a large one.
        drop_text: Share of clips that are shown with the negative prompt.
        spread: Share of clips whose frames lie at random places of a clip twice as long, so that
            longer clips hold no place that was never seen (arXiv 2305.16843).
        no_camera_every: Steps of which one is without a camera, as requests may be.
        compiled: Run the experts' blocks through torch.compile, and batches as CUDA graphs.
        log_every: Steps between two lines in the log.
        seed: Of weights, batches and noise.
    """

    steps: int = 7043
    batch: int = 64
    learning_rate: float = 1e-3
    camera_share: float = 0.2
    drop_text: float = 0.12
    spread: float = 0.0
    no_camera_every: int = 20
    compiled: bool = False
    log_every: int = 100
    seed: int = 0


def train_dit(
    data: Path,
    out: Path,
    size: NanoSize,
    training: DiTTraining,
    *,
    device: torch.device,
    keeping: Keeping,
) -> tuple[float, float]:
    """Trains the experts and writes their running average.

    Args:
        data: Folder of encoded clips.
        out: File to write.
        size: How large.
        training: How.
        device: Where.
        keeping: How it is kept safe.

    Returns:
        The last batches' mean squared errors, of the high-noise and the low-noise expert.

    Raises:
        StoppedEarly: The time was up.
    """
    torch.manual_seed(training.seed)
    clips = load_encoded(data, size, device=device)
    tokenizer = read_tokenizer(data / TOKENIZER)
    model = WorldModel(size, tokenizer.get_vocab_size()).to(device)
    loop = Loop(
        model,
        _groups(model, training),
        steps=training.steps,
        warm_up=0.04,
        betas=(0.9, 0.98),
        decay=0.999,
        file=out,
        keeping=keeping,
    )
    negative, _ = tokenize(tokenizer, [NEGATIVE_PROMPT])
    errors_of = _errors_with_and_without_camera(model, clips, negative.to(device), size, training)
    errors = torch.ones(2, device=device)
    batches = shuffled(len(clips), training.batch, training.seed, first=loop.first, device=device)
    for step, chosen in zip(loop, batches, strict=False):
        squared = errors_of[(step + 1) % training.no_camera_every != 0](chosen)
        squared.sum().backward()
        errors = errors.lerp(squared.detach(), max(0.01, 1 / (step + 1)))
        if step % training.log_every == 0 or step == training.steps - 1:
            high, low = errors.tolist()
            logger.info("dit step %d: high %.4f, low %.4f, %.0f s", step, high, low, loop.seconds)
    facts = {"training": asdict(training), "seconds": loop.seconds, "hardware": hardware(device)}
    model_state = loop.average.module.state_dict()
    reached = (float(errors[HIGH]), float(errors[LOW]))
    torch.save({"model": model_state, "data": read_facts(data), "errors": reached, **facts}, out)
    loop.finish()
    return reached


class _Errors(nn.Module):
    """Squared errors of both experts on one batch, without a question to the device.

    Args:
        model: What is trained.
        clips: To choose from.
        negative: Tokens of the negative prompt.
        size: Of the model.
        training: How it is trained.
        has_camera: Whether the experts are told where it goes.
    """

    def __init__(
        self,
        model: WorldModel,
        clips: EncodedClips,
        negative: Tensor,
        size: NanoSize,
        *,
        training: DiTTraining,
        has_camera: bool,
    ) -> None:
        super().__init__()
        self._model, self._clips, self._negative = model, clips, negative
        self._training, self._has_camera = training, has_camera
        self._places = FramePlaces(clips.shape, size, negative.device)
        self._unwanted_length = torch.full((1,), negative.shape[1], device=negative.device)

    def forward(self, chosen: Tensor) -> Tensor:
        """Of the chosen clips, one error an expert: [2]."""
        clips, device = self._clips, chosen.device.type
        rays = batch_rays(clips.motions[chosen], clips.shape) if self._has_camera else None
        # A CUDA graph must not hold what autocast keeps for all.
        with torch.autocast(device, torch.bfloat16, enabled=chosen.is_cuda, cache_enabled=False):
            conditions = (
                with_mask(clips.first_frames[chosen].float()),
                rays,
                self._text(chosen),
                self._model.encode_image(clips.images[chosen].float()),
                self._places.draw(len(chosen), self._training.spread),
            )
            latent = clips.latents[chosen].float()
            return torch.stack([self._squared(i, latent, conditions) for i in (HIGH, LOW)])

    def _squared(self, number: int, latent: Tensor, conditions: tuple[Any, ...]) -> Tensor:
        expert = self._model.experts[number]
        level = noise_levels(len(latent), number, device=latent.device)
        noise = torch.randn_like(latent)
        share = level.view(-1, 1, 1, 1, 1)
        sample = share * noise + (1 - share) * latent
        timestep = (level * NUM_TRAIN_TIMESTEPS).floor()
        flow = expert.forward_batch(sample, timestep, *conditions)
        return F.mse_loss(flow.float(), noise - latent)

    def _text(self, chosen: Tensor) -> Tensor:
        """Rows of the captions; some clips get the negative prompt's."""
        rows = self._model.encode_text(self._clips.tokens[chosen], self._clips.lengths[chosen])
        unwanted = self._model.encode_text(self._negative, self._unwanted_length)
        drop = torch.rand(len(chosen), device=chosen.device) < self._training.drop_text
        return torch.where(drop.view(-1, 1, 1), unwanted, rows)


def _errors_with_and_without_camera(
    model: WorldModel, clips: EncodedClips, negative: Tensor, size: NanoSize, training: DiTTraining
) -> Mapping[bool, Callable[[Tensor], Tensor]]:
    plain = {
        has_camera: _Errors(model, clips, negative, size, training=training, has_camera=has_camera)
        for has_camera in (True, False)
    }
    if not training.compiled:
        return plain
    for dit in model.experts:
        compile_blocks(dit)
    return {each: _recorded(plain[each], training.batch, negative.device) for each in plain}


def _recorded(errors: _Errors, batch: int, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Forward and backward as CUDA graphs: launching small kernels takes longer than running them.

    Args:
        errors: To record.
        batch: Clips of each batch.
        device: A GPU.
    """
    chosen = torch.zeros(batch, dtype=torch.long, device=device)
    with torch.random.fork_rng([device]):
        recorded = torch.cuda.make_graphed_callables(errors, (chosen,), allow_unused_input=True)
    return cast("Callable[[Tensor], Tensor]", recorded)


class FramePlaces:
    """Where in time the frames of a training clip lie.

    Args:
        shape: Of the clips.
        size: Of the model.
        device: Where the tables are wanted.
    """

    def __init__(self, shape: VideoShape, size: NanoSize, device: torch.device) -> None:
        self._frames = shape.latent_frames
        self._grid = (shape.latent_height // PATCH[1], shape.latent_width // PATCH[2])
        twice = (2 * self._frames - 1, *self._grid)
        self._table = rotary_table(twice, size.dit.head_dim, device=device)

    def draw(self, count: int, spread: float) -> RotaryTable:
        """Tables of several clips, [count, L, 1, H] each.

        Args:
            count: How many.
            spread: Share of them that lie at random places, in order; the others have no gaps.
        """
        device = self._table.cos.device
        later = torch.rand(count, 2 * self._frames - 2, device=device)
        drawn = later.argsort(1)[:, : self._frames - 1].sort(1).values + 1
        plain = torch.arange(1, self._frames, device=device)
        is_spread = torch.rand(count, 1, device=device) < spread
        places = F.pad(torch.where(is_spread, drawn, plain), (1, 0))  # the first stays first
        return RotaryTable(self._at(self._table.cos, places), self._at(self._table.sin, places))

    def _at(self, factors: Tensor, places: Tensor) -> Tensor:
        by_frame = factors.unflatten(0, (2 * self._frames - 1, -1))
        of_clips: Tensor = by_frame[places].flatten(1, 2)
        return of_clips


def _groups(model: WorldModel, training: DiTTraining) -> list[dict[str, Any]]:
    """The layers that read the rays, and all others."""
    of_camera = {id(parameter) for parameter in model.camera_parameters}
    others = [parameter for parameter in model.parameters() if id(parameter) not in of_camera]
    camera_rate = training.camera_share * training.learning_rate
    return [
        *decaying_groups(others, training.learning_rate, 0.01),
        *decaying_groups(model.camera_parameters, camera_rate, 0.01),
    ]
