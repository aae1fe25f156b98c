"""What both trainings share: optimizer, running average, and a loop that can be cut off."""

import copy
import itertools
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """How a training is kept safe.

    Args:
        resume: Go on from the snapshot of an earlier run, where there is one.
        every_s: Seconds between two snapshots.
        limit_s: Seconds after which to stop with a snapshot; None goes on to the end.
    """

    resume: bool = False
    every_s: float = 30.0
    limit_s: float | None = None


class StoppedEarly(Exception):
    """The time was up; a snapshot of the training is there."""


class RunningAverage:
    """An exponential running average of a module's weights; early on it forgets faster.

    Args:
        module: Its weights; buffers are taken to be constants.
        decay: Share of the old average that stays in each step.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).requires_grad_(False)
        self._averages: list[Tensor] = list(self.module.parameters())
        self._weights: list[Tensor] = list(module.parameters())
        self._decay = decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after a step; nothing is asked of the device."""
        decay = min(self._decay, (step + 1) / (step + 10))
        torch._foreach_lerp_(self._averages, self._weights, 1 - decay)


class Loop:
    """Steps of a training, with all that they change.

    Args:
        model: What is trained.
        optimizers: Each of some of its parameters, at their highest rate.
        steps: How many there are in all.
        warm_up: Share of them in which the learning rates rise.
        decay: Of the running average.
        file: Of the result; the snapshot lies beside it.
        keeping: How it is kept safe.

    Attributes:
        average: The running average.
        first: The first step that is left.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        *,
        steps: int,
        warm_up: float,
        decay: float,
        file: Path,
        keeping: Keeping,
    ) -> None:
        self._model, self._steps, self._keeping = model, steps, keeping
        self.average = RunningAverage(model, decay)
        self._on_gpu = next(model.parameters()).is_cuda
        self._optimizers = optimizers
        self._schedules = [_rising_and_falling(each, steps, warm_up) for each in optimizers]
        self._snapshot = file.with_suffix(".snapshot")
        self.first, self._seconds_before, self._start_s = 0, 0.0, time.perf_counter()
        if keeping.resume and self._snapshot.exists():
            self._restore()

    @property
    def seconds(self) -> float:
        """Spent on this training so far, earlier runs included."""
        return self._seconds_before + time.perf_counter() - self._start_s

    def __iter__(self) -> Iterator[int]:
        """Numbers of the steps that are left; each must leave gradients behind.

        Raises:
            StoppedEarly: The time is up.
        """
        saved_s = time.perf_counter()
        for step in range(self.first, self._steps):
            yield step
            self._update(step)
            now_s = time.perf_counter()
            up = self._keeping.limit_s is not None and now_s - self._start_s > self._keeping.limit_s
            if up or now_s - saved_s > self._keeping.every_s:
                self._save(step + 1)
                saved_s = now_s
            if up and step + 1 < self._steps:
                raise StoppedEarly(f"after step {step}, {self.seconds:.0f} s")

    @torch.no_grad()
    def begin_as(self, part: nn.Module, other: nn.Module) -> None:
        """Has a part of the model go on as another one is, with what the optimizers know of it."""
        for weight, source in zip(part.parameters(), other.parameters(), strict=True):
            weight.copy_(source)
            for optimizer in self._optimizers:
                if source in optimizer.state:
                    optimizer.state[weight] = copy.deepcopy(optimizer.state[source])

    def finish(self) -> None:
        """Removes the snapshot: the result is written."""
        self._snapshot.unlink(missing_ok=True)

    def _update(self, step: int) -> None:
        nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        for optimizer, schedule in zip(self._optimizers, self._schedules, strict=True):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
        self.average.update(step)

    def _save(self, step: int) -> None:
        """Whole or not at all: a cut may come while it is written."""
        state = {
            "step": step,
            "seconds": self.seconds,
            "model": self._model.state_dict(),
            "average": self.average.module.state_dict(),
            "optimizers": [each.state_dict() for each in self._optimizers],
            "schedules": [each.state_dict() for each in self._schedules],
            "chance": torch.get_rng_state(),
            "gpu_chance": torch.cuda.get_rng_state() if self._on_gpu else None,
        }
        unfinished = self._snapshot.with_suffix(".unfinished")
        torch.save(state, unfinished)
        unfinished.replace(self._snapshot)

    def _restore(self) -> None:
        device = next(self._model.parameters()).device
        state = torch.load(self._snapshot, weights_only=True, map_location=device)
        self._model.load_state_dict(state["model"])
        self.average.module.load_state_dict(state["average"])
        for optimizer, its_state in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(its_state)
        for schedule, its_state in zip(self._schedules, state["schedules"], strict=True):
            schedule.load_state_dict(its_state)
        torch.set_rng_state(state["chance"].cpu())
        if state["gpu_chance"] is not None:
            torch.cuda.set_rng_state(state["gpu_chance"].cpu())
        self.first, self._seconds_before = state["step"], state["seconds"]
        logger.info("goes on with step %d, after %.0f s", self.first, self._seconds_before)


def _rising_and_falling(optimizer: Optimizer, steps: int, warm_up: float) -> OneCycleLR:
    highest = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(
        optimizer, highest, total_steps=steps, pct_start=warm_up, cycle_momentum=False
    )


def decaying_groups(
    parameters: Sequence[nn.Parameter], lr: float, decay: float
) -> list[dict[str, Any]]:
    """Matrices decay, the rest does not."""
    matrices = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    return [
        {"params": matrices, "lr": lr, "weight_decay": decay},
        {"params": others, "lr": lr, "weight_decay": 0.0},
    ]


def shuffled(
    count: int, batch: int, seed: int, *, first: int, device: torch.device
) -> Iterator[Tensor]:
    """Batches of numbers below `count`, each number once before any comes again.

    Args:
        count: How many numbers there are.
        batch: How many of them at once.
        seed: Of their order.
        first: Batches to leave out, those of an earlier run.
        device: Where the batches are wanted.
    """
    per_epoch = max(count // batch, 1)
    for epoch in itertools.count(first // per_epoch):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        order = torch.randperm(count, generator=generator).to(device)
        batches = order[: per_epoch * batch].split(batch)
        skipped = first % per_epoch if epoch == first // per_epoch else 0
        yield from batches[skipped:]


def hardware(device: torch.device) -> str:
    """What a device is called."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{torch.get_num_threads()} CPU threads"
