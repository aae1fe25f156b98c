"""Whether a checkpoint does what it says, judged by the renderer on worlds it never saw.

python -m model.nano evaluate CHECKPOINT --seed 0
"""

import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from model.nano.clips import HELD_OUT_FROM
from model.nano.processes import map_in_processes
from model.nano.training import hardware
from model.nano.trials import OTHER_APART_DEG, SCORED, SIGNS, WRONG, Judge, Row, Trial

logger = logging.getLogger(__name__)

_SEEDS_APART = 100_000
_MARGIN_DB, _MARGIN_SHARE = 2.0, 0.9
_SIGN_SHARE = 0.95
_VAE_DB, _FIRST_FRAME_DB = 30.0, 26.0
_TEXT_SHARE = 0.8
_KEPT_SHARE = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """How much is evaluated.

    Args:
        camera: Worlds on which right and wrong paths are compared.
        signs: Clips of each pure motion.
        text: Pairs of prompts for one first frame.
        longer: Of the worlds for the camera, how many are gone through for twice as long too.
    """

    camera: int = 64
    signs: int = 20
    text: int = 40
    longer: int = 64


def evaluate(judge: Judge, seed: int, amount: Amount, *, workers: int = 1) -> dict[str, Any]:
    """Every figure of one checkpoint, and whether it holds what it must.

    Args:
        judge: Of the checkpoint.
        seed: Another seed, other worlds.
        amount: How many.
        workers: Processes that share the trials.
    """
    start_s = time.perf_counter()
    trials = _trials(seed, amount)
    rows: dict[str, list[Row]] = {}
    results = map_in_processes(judge, trials, workers=workers)
    for number, (trial, row) in enumerate(zip(trials, results, strict=True)):
        rows.setdefault(trial.kind, []).append(row)
        logger.info("trial %d of %d, %s: %s", number + 1, len(trials), trial.kind, row)
    figures = {
        "camera": _camera(rows["camera"]),
        "signs": {name: _share(row["agrees"] for row in rows[name]) for name in SIGNS},
        "text": _text(rows["text"]),
        "longer": _longer(rows["longer"], rows["camera"]),
        "finite": _share(row["finite"] for kind in rows.values() for row in kind),
    }
    return {
        "seed": seed,
        "sampler": {**asdict(judge.sampler), "solver": judge.sampler.solver.value},
        "shape": asdict(judge.shape),
        "hardware": hardware(judge.device),
        "seconds": round(time.perf_counter() - start_s, 1),
        **figures,
        "holds": verdicts(figures),
    }


def verdicts(figures: Mapping[str, Any]) -> dict[str, bool]:
    """What must hold of the figures, and whether it does."""
    camera, longer = figures["camera"], figures["longer"]
    return {
        "follows_the_camera": all(
            camera[name]["margin_db"] >= _MARGIN_DB and camera[name]["share"] >= _MARGIN_SHARE
            for name in WRONG
        ),
        "signs": min(figures["signs"].values()) >= _SIGN_SHARE,
        "vae": camera["vae_db"] >= _VAE_DB,
        "first_frame": camera["first_frame_min_db"] >= _FIRST_FRAME_DB,
        "text": figures["text"]["share"] >= _TEXT_SHARE,
        "longer": longer["finite"] == 1.0
        and all((longer[name]["kept"] or 0.0) >= _KEPT_SHARE for name in WRONG),
    }


def _trials(seed: int, amount: Amount) -> list[Trial]:
    """All trials, the longest first so that no process waits long for another."""
    kinds = {"camera": amount.camera, "text": amount.text} | dict.fromkeys(SIGNS, amount.signs)
    numbered = [(kind, number) for kind, count in kinds.items() for number in range(count)]
    first = HELD_OUT_FROM + seed * _SEEDS_APART
    trials = [Trial(kind, number, first + i) for i, (kind, number) in enumerate(numbered)]
    return [replace(trial, kind="longer") for trial in trials[: amount.longer]] + trials


def _camera(rows: Sequence[Row]) -> dict[str, Any]:
    moves = Counter(SCORED[number % len(SCORED)].value for number in range(len(rows)))
    return {
        "clips": len(rows),
        "moves": dict(moves),
        "other_path_apart_deg": OTHER_APART_DEG,
        "right_db": _mean(row["right"] for row in rows),
        "vae_db": _mean(row["vae"] for row in rows),
        "vae_min_db": _least(row["vae"] for row in rows),
        "first_frame_db": _mean(row["first_frame"] for row in rows),
        "first_frame_min_db": _least(row["first_frame"] for row in rows),
        "follower_right_db": _mean(row["follower_right"] for row in rows),
        **{name: _margins(name, rows) for name in WRONG},
    }


def _margins(name: str, rows: Sequence[Row]) -> dict[str, Any]:
    """The checkpoint's margin over a wrong path, and what the follower's would be."""
    of_follower = _margin([row[f"follower_{name}"] for row in rows])
    return {**_margin([row[name] for row in rows]), "follower": of_follower}


def _margin(margins_db: Sequence[float]) -> dict[str, float]:
    """Mean margin; share of clips in which it is what it must be; share in which there is any."""
    return {
        "margin_db": _mean(margins_db),
        "share": _share(margin >= _MARGIN_DB for margin in margins_db),
        "share_better": _share(margin > 0 for margin in margins_db),
    }


def _text(rows: Sequence[Row]) -> dict[str, float]:
    progress = [row["progress"] for row in rows]
    return {
        "pairs": len(rows),
        "share": _share(value > 0 for value in progress),
        "median_progress": round(float(np.median(progress)), 3),
    }


def _longer(rows: Sequence[Row], short_rows: Sequence[Row]) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "clips": len(rows),
        "finite": _share(row["finite"] for row in rows),
        "right_db": _mean(row["right"] for row in rows),
    }
    pairs = list(zip(rows, short_rows, strict=False))
    for name in WRONG:
        figures[name] = {**_kept(name, pairs), "follower": _kept(f"follower_{name}", pairs)}
    return figures


def _kept(name: str, pairs: Sequence[tuple[Row, Row]]) -> dict[str, float | None]:
    """Of the margin of a world and path, what is left at twice the length."""
    long, short = (_mean(row[name] for row in rows) for rows in zip(*pairs, strict=True))
    kept = round(long / short, 3) if short > 0 else None
    return {"margin_db": long, "short_margin_db": short, "kept": kept}


def _mean(values: Iterable[float]) -> float:
    return round(float(np.mean(list(values))), 2)


def _least(values: Iterable[float]) -> float:
    return round(min(values), 2)


def _share(values: Iterable[float]) -> float:
    return round(float(np.mean(list(values))), 3)
