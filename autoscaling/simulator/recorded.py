"""Recorded traces: JSON lines as `lingbot-serve jobs trace` writes them."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from autoscaling.cost import CostModel, latent_tokens
from autoscaling.order import NORMAL, WEIGHTS
from autoscaling.simulator.trace import Asked, Trace


def read_trace(path: Path, gang_size: int, *, model: CostModel | None = None) -> Trace:
    """A recorded trace: one JSON object a line, in any order.

    Each has `arrival_s` and either `gpu_s` or all of `num_frames`, `height`, `width`, `num_steps`.
    It may have `deadline_s`, counted from its arrival, and what the order of service goes by:
    `key`, `priority` and `predicted_gpu_s`, the cost that was predicted when it came.
    Without them all clips are one key's, of normal priority, and predicted rightly. Arrivals are
    shifted so that the first is at 0. Other fields are left alone.

    Args:
        path: The file.
        gang_size: GPUs of the gangs that will make the clips.
        model: Costs of clips without `gpu_s`.

    Raises:
        ValueError: A line cannot be read; it is named.
    """
    model = model or CostModel()
    jobs: list[tuple[float, float, float, Asked]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            try:
                jobs.append(_read_job(json.loads(line), gang_size, model))
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}:{number}: {error!r}") from error
    if not jobs:
        raise ValueError(f"{path} has no jobs")
    jobs.sort(key=lambda job: job[:3])
    arrival_s, gpu_s, deadline_s = np.array([job[:3] for job in jobs], dtype=np.float64).T.copy()
    arrival_s = arrival_s - arrival_s[0]
    due_s = arrival_s + deadline_s if np.isfinite(deadline_s).any() else None
    return Trace(arrival_s, gpu_s, due_s, tuple(asked for *_, asked in jobs))


def _read_job(job: Any, gang_size: int, model: CostModel) -> tuple[float, float, float, Asked]:
    if not isinstance(job, dict):
        raise TypeError("a line that holds no object")
    within_s, predicted_gpu_s = job.get("deadline_s"), job.get("predicted_gpu_s")
    gpu_s = _gpu_s(job, gang_size, model)
    asked = Asked(
        key=str(job.get("key", "")),
        priority=str(job.get("priority", NORMAL)),
        predicted_s=float(gpu_s if predicted_gpu_s is None else predicted_gpu_s) / gang_size,
    )
    if asked.priority not in WEIGHTS:
        raise ValueError(f"priority {asked.priority!r} is none of {', '.join(WEIGHTS)}")
    deadline_s = math.inf if within_s is None else float(within_s)
    return float(job["arrival_s"]), gpu_s, deadline_s, asked


def _gpu_s(job: dict[str, Any], gang_size: int, model: CostModel) -> float:
    if "gpu_s" in job:
        return float(job["gpu_s"])
    tokens = latent_tokens(int(job["num_frames"]), int(job["height"]), int(job["width"]))
    return model.clip_gpu_s(tokens, int(job["num_steps"]), gang_size)
