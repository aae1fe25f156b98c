"""Training of both experts with the text and image encoders, by flow matching.

    python -m model.nano dit LATENTS OUT.pt

Flow matching as the published models have it: a sample at noise level s is s*noise + (1-s)*clip,
the model is told 1000*s and predicts noise - clip (arXiv 2210.02747).
"""

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from model.compilation import compile_blocks
from model.nano.dataset import TOKENIZER, read_facts
from model.nano.encoded import EncodedClips, batch_rays, load_encoded
from model.nano.muon import Muon
from model.nano.noise import HIGH, LOW, noise_levels
from model.nano.sizes import NanoSize
from model.nano.timing import PlaceTable, Timing, draw_timing
from model.nano.tokens import NEGATIVE_PROMPT, read_tokenizer, tokenize
from model.nano.training import Keeping, Loop, decaying_groups, hardware, shuffled
from model.nano.world_model import WorldModel, with_mask
from model.types import NUM_TRAIN_TIMESTEPS

logger = logging.getLogger(__name__)

_LINE = "dit step %d: high %.4f, low %.4f; told of another path %.4f, %.4f; %.0f s"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiTTraining:
    """How the experts are trained.

    Args:
        steps: Batches.
        batch: Clips of each; both experts see them, each at noise levels of its own.
        learning_rate: At its highest.
        matrix_rate: Likewise, for the matrices in the experts' blocks, which Muon trains.
        camera_share: Of that, for the layers that read the rays: their 1536 inputs move together,
            so that a step of theirs is a large one.
        parted_after: Share of the steps after which the low-noise expert goes on as a copy of the
            high-noise one. By itself it learns to read the motion from the sample and not from
            the camera, and then believes what was drawn too little or the wrong way.
        drop_text: Share of clips that are shown with the negative prompt.
        slowed: Share of the clips without hurry that run at half their rate, throughout or for a
            part, as slow ones of up to twice the length.
        hurried_slowed: The same of those that hurry: at half their rate they are what a clip of
            twice the length is, and otherwise what no server tells.
        sparse_every: Steps of which one shows half of the frames only.
        no_camera_every: Steps of which one is without a camera, as requests may be.
        compiled: Run the experts' blocks through torch.compile, and batches as CUDA graphs.
        log_every: Steps between two lines in the log, for each of which noise is drawn as well.
        seed: Of weights, batches and noise.
    """

    steps: int = 18_000
    batch: int = 64
    learning_rate: float = 2e-3
    matrix_rate: float = 8e-3
    camera_share: float = 0.2
    parted_after: float = 0.2
    drop_text: float = 0.12
    slowed: float = 0.4
    hurried_slowed: float = 0.9
    sparse_every: int = 3
    no_camera_every: int = 20
    compiled: bool = False
    log_every: int = 250
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
        _optimizers(model, training, on_gpu=device.type == "cuda"),
        steps=training.steps,
        warm_up=0.04,
        decay=0.999,
        file=out,
        keeping=keeping,
    )
    negative, _ = tokenize(tokenizer, [NEGATIVE_PROMPT])
    make = functools.partial(_Errors, model, clips, negative.to(device), size, training=training)
    errors_of = _errors_of_each_kind(make, model, training, device)
    elsewhere = make(kind=Kind.WHOLE, elsewhere=True)
    errors = torch.ones(2, device=device)
    batches = shuffled(len(clips), training.batch, training.seed, first=loop.first, device=device)
    parted = int(training.parted_after * training.steps)
    for step, chosen in zip(loop, batches, strict=False):
        if step == parted:
            loop.begin_as(model.low_noise, model.high_noise)
        squared = errors_of[_kind(step, training)](chosen)
        squared.sum().backward()
        errors = errors.lerp(squared.detach(), max(0.01, 1 / (step + 1)))
        if step % training.log_every == 0 or step == training.steps - 1:
            # With gradients as in training: without, the blocks would be compiled once more.
            lost = elsewhere(chosen).detach()
            logger.info(_LINE, step, *errors.tolist(), *lost.tolist(), loop.seconds)
    facts = {"training": asdict(training), "seconds": loop.seconds, "hardware": hardware(device)}
    model_state = loop.average.module.state_dict()
    reached = (float(errors[HIGH]), float(errors[LOW]))
    torch.save({"model": model_state, "data": read_facts(data), "errors": reached, **facts}, out)
    loop.finish()
    return reached


class Kind(Enum):
    """Kinds of batches."""

    WHOLE = "whole"
    SPARSE = "sparse"
    NO_CAMERA = "no camera"


class _Errors(nn.Module):
    """Squared errors of both experts on one batch, without a question to the device.

    Args:
        model: What is trained.
        clips: To choose from.
        negative: Tokens of the negative prompt.
        size: Of the model.
        training: How it is trained.
        kind: Of the batches.
        elsewhere: Whether each clip is told of another one's path. Errors that do not grow by it
            are of an expert that ignores the camera.
    """

    def __init__(
        self,
        model: WorldModel,
        clips: EncodedClips,
        negative: Tensor,
        size: NanoSize,
        *,
        training: DiTTraining,
        kind: Kind,
        elsewhere: bool = False,
    ) -> None:
        super().__init__()
        self._model, self._clips, self._negative = model, clips, negative
        self._training, self._kind, self._elsewhere = training, kind, elsewhere
        self._table = PlaceTable(clips.shape, size, negative.device)
        self._unwanted_length = torch.full((1,), negative.shape[1], device=negative.device)

    def forward(self, chosen: Tensor) -> Tensor:
        """Of the chosen clips, one error an expert: [2]."""
        clips, device = self._clips, chosen.device.type
        timing = self._draw_timing(chosen)
        # A CUDA graph must not hold what autocast keeps for all.
        with torch.autocast(device, torch.bfloat16, enabled=chosen.is_cuda, cache_enabled=False):
            conditions = (
                with_mask(timing.of(clips.first_frames[chosen]).float()),
                self._rays(chosen, timing),
                self._text(chosen),
                self._model.encode_image(clips.images[chosen].float()),
                self._table.at(timing.places),
            )
            latent = timing.of(clips.latents[chosen]).float()
            return torch.stack([self._squared(i, latent, conditions) for i in (HIGH, LOW)])

    def _draw_timing(self, chosen: Tensor) -> Timing:
        whole = self._clips.shape.latent_frames
        kept = (whole + 1) // 2 if self._kind is Kind.SPARSE else whole
        hurried, training = self._clips.hurried[chosen], self._training
        slowed = torch.where(hurried, training.hurried_slowed, training.slowed)
        return draw_timing(slowed, whole, kept)

    def _rays(self, chosen: Tensor, timing: Timing) -> Tensor | None:
        if self._kind is Kind.NO_CAMERA:
            return None
        clips, told = self._clips, chosen.roll(1) if self._elsewhere else chosen
        motions = timing.motions(clips.motions[told], clips.half_motions[told])
        return batch_rays(motions, clips.shape)

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


def _kind(step: int, training: DiTTraining) -> Kind:
    if (step + 1) % training.no_camera_every == 0:
        return Kind.NO_CAMERA
    return Kind.SPARSE if (step + 1) % training.sparse_every == 0 else Kind.WHOLE


def _errors_of_each_kind(
    make: Callable[..., _Errors], model: WorldModel, training: DiTTraining, device: torch.device
) -> Mapping[Kind, Callable[[Tensor], Tensor]]:
    plain = {kind: make(kind=kind) for kind in Kind}
    if not training.compiled:
        return plain
    for dit in model.experts:
        compile_blocks(dit)
    return {each: _recorded(plain[each], training.batch, device) for each in plain}


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


def _optimizers(model: WorldModel, training: DiTTraining, *, on_gpu: bool) -> list[Optimizer]:
    """Muon for the matrices between tokens and tokens; AdamW for what reads, writes and scales."""
    matrices = model.hidden_matrices
    of_camera = {id(parameter) for parameter in model.camera_parameters}
    apart = of_camera | {id(parameter) for parameter in matrices}
    others = [parameter for parameter in model.parameters() if id(parameter) not in apart]
    camera_rate = training.camera_share * training.learning_rate
    groups = [
        *decaying_groups(others, training.learning_rate, 0.01),
        *decaying_groups(model.camera_parameters, camera_rate, 0.01),
    ]
    return [
        torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=on_gpu),
        Muon(matrices, lr=training.matrix_rate, weight_decay=0.01),
    ]
