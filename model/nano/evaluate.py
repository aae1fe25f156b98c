"""Whether a checkpoint does what it says, judged by the renderer on worlds it never saw.

python -m model.nano evaluate CHECKPOINT --seed 0
"""

import itertools
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from model.nano.captions import change_phrase
from model.nano.clips import HELD_OUT_FROM, SHAPE, Clip, draw_clip, show
from model.nano.motion import ApparentMotion, apparent_motion
from model.nano.paths import Motion, Move, camera_path
from model.nano.studio import Studio, Take
from model.nano.world import TIMES, WEATHERS, Mood
from model.types import UInt8Array, VideoShape

logger = logging.getLogger(__name__)

_SEEDS_APART = 100_000
_TURNING = (Move.YAW, Move.ORBIT, Move.MIXTURE, Move.MIXTURE)
_SIGNS: dict[str, tuple[Move, Callable[[ApparentMotion, Motion], float]]] = {
    "yaw": (Move.YAW, lambda seen, told: seen.yaw * told.yaw),
    "pitch": (Move.PITCH, lambda seen, told: seen.pitch * told.pitch),
    "forward": (Move.FORWARD, lambda seen, told: seen.forward * told.forward),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """How much is evaluated.

    Args:
        clips: Worlds on which right and wrong paths are compared.
        signs: Clips of each pure motion.
        pairs: Pairs of prompts for one first frame.
        longer: Worlds of twice the length.
        shape: Size of the clips.
    """

    clips: int = 64
    signs: int = 20
    pairs: int = 40
    longer: int = 16
    shape: VideoShape = SHAPE


class Evaluation:
    """Judges one checkpoint on worlds drawn from one seed.

    Args:
        studio: The checkpoint.
        seed: Another seed, other worlds.
        amount: How many.
        device: Where the renderer works.
    """

    def __init__(self, studio: Studio, seed: int, amount: Amount, device: torch.device) -> None:
        self._studio = studio
        self._seeds = itertools.count(HELD_OUT_FROM + seed * _SEEDS_APART)
        self._amount = amount
        self._device = device

    def run(self) -> dict[str, Any]:
        """Every figure."""
        amount = self._amount
        camera = self._camera(amount.clips, amount.shape)
        twice = VideoShape(2 * amount.shape.num_frames - 1, amount.shape.height, amount.shape.width)
        longer = self._camera(amount.longer, twice)
        wrong = ("mirrored_yaw", "no_motion", "other_path")
        return {
            "camera": camera,
            "signs": {name: self._sign_agreement(name) for name in _SIGNS},
            "text": self._text(),
            "longer": {
                **longer,
                "share_of_margin": {name: _ratio(longer[name], camera[name]) for name in wrong},
            },
        }

    def _camera(self, count: int, shape: VideoShape) -> dict[str, Any]:
        """PSNR with the right path against the same seed with wrong ones."""
        clips = [self._turning_clip(number, shape) for number in range(count)]
        rows: dict[str, list[float]] = {}
        for number, clip in enumerate(clips):
            other = clips[(number + 1) % count].motion
            frames = truth(clip)
            right = self._make(clip, clip.motion)
            row = {
                "right": psnr(right, frames),
                "mirrored_yaw": psnr(self._make(clip, clip.motion.mirrored), frames),
                "no_motion": psnr(self._make(clip, Motion()), frames),
                "other_path": psnr(self._make(clip, other), frames),
                "first_frame": psnr(right[:1], frames[:1]),
                "vae": psnr(self._studio.reconstruct(clip.pixels_3NHW), frames),
            }
            for name, value in row.items():
                rows.setdefault(name, []).append(value)
            logger.info("camera %d of %d: %s", number + 1, count, row)
        return _camera_figures(rows)

    def _turning_clip(self, number: int, shape: VideoShape) -> Clip:
        move = _TURNING[number % len(_TURNING)]
        return draw_clip(next(self._seeds), device=self._device, shape=shape, move=move)

    def _make(self, clip: Clip, motion: Motion, prompt: str | None = None) -> UInt8Array:
        frames = clip.pixels_3NHW.shape[1]
        shape = VideoShape(frames, *clip.pixels_3NHW.shape[2:])
        take = Take(
            truth(clip)[0], prompt or clip.caption, camera_path(motion, frames), clip.world.seed
        )
        return self._studio.make(take, shape)

    def _sign_agreement(self, name: str) -> float:
        """Share of clips of a pure motion that seem to move the way they were told."""
        move, agreement = _SIGNS[name]
        agree = 0
        for _ in range(self._amount.signs):
            clip = draw_clip(
                next(self._seeds),
                device=self._device,
                shape=self._amount.shape,
                move=move,
                still_mood=True,
            )
            agree += agreement(apparent_motion(self._make(clip, clip.motion)), clip.motion) > 0
        return agree / self._amount.signs

    def _text(self) -> dict[str, Any]:
        """One first frame, two prompts: do later frames move towards what each one says?"""
        progress: list[float] = []
        for number in range(self._amount.pairs):
            still = draw_clip(
                next(self._seeds), device=self._device, shape=self._amount.shape, still_mood=True
            )
            changed = show(
                still.world.turning(_other(still.world.before, number)),
                still.motion,
                self._amount.shape,
                device=self._device,
            )
            prompt = still.caption + change_phrase(changed.world, number)
            made = [self._make(still, still.motion, text) for text in (still.caption, prompt)]
            shift = late_colours(truth(changed)) - late_colours(truth(still))
            step = late_colours(made[1]) - late_colours(made[0])
            progress.append(float(step @ shift / (shift @ shift)))
        return {
            "pairs": self._amount.pairs,
            "share": float(np.mean(np.array(progress) > 0)),
            "median_progress": round(float(np.median(progress)), 3),
        }


def truth(clip: Clip) -> UInt8Array:
    """The renderer's frames: uint8 [N, H, W, 3]."""
    scaled = ((clip.pixels_3NHW + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    frames: UInt8Array = scaled.permute(1, 2, 3, 0).cpu().contiguous().numpy()
    return frames


def psnr(frames: UInt8Array, wanted: UInt8Array) -> float:
    """dB over all pixels of two clips."""
    error = frames.astype(np.float64) - wanted.astype(np.float64)
    return float(10 * np.log10(255**2 / max(float(np.mean(error**2)), 1e-9)))


def late_colours(frames: UInt8Array) -> npt.NDArray[np.float64]:
    """Mean colour of sky and ground halves of the last third: [6], in [0, 1]."""
    late = frames[-len(frames) // 3 :].astype(np.float64) / 255
    middle = late.shape[1] // 2
    halves = (late[:, :middle], late[:, middle:])
    return np.concatenate([half.mean(axis=(0, 1, 2)) for half in halves])


def _camera_figures(rows: dict[str, list[float]]) -> dict[str, Any]:
    figures: dict[str, Any] = {
        f"{name}_psnr": _mean(rows[name]) for name in ("right", "first_frame", "vae")
    }
    for name in ("mirrored_yaw", "no_motion", "other_path"):
        margins = [r - w for r, w in zip(rows["right"], rows[name], strict=True)]
        beaten = sum(margin > 0 for margin in margins) / len(margins)
        figures[name] = {"margin_db": _mean(margins), "share": round(beaten, 3)}
    return {"clips": len(rows["right"]), **figures}


def _other(before: Mood, number: int) -> Mood:
    """Another time of day for even numbers, another weather for odd ones."""
    names: Sequence[str] = WEATHERS if number % 2 else TIMES
    now = before.weather if number % 2 else before.time
    new = [name for name in names if name != now][number // 2 % 2]
    return Mood(before.time, new) if number % 2 else Mood(new, before.weather)


def _ratio(longer: dict[str, float], camera: dict[str, float]) -> float | None:
    """What is left of a margin; None where there is none to begin with."""
    margin = camera["margin_db"]
    return round(longer["margin_db"] / margin, 3) if margin > 0 else None


def _mean(values: Iterable[float]) -> float:
    return round(float(np.mean(list(values))), 2)
