"""Single trials of a checkpoint against the renderer: one world each, drawn from a seed."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch

from model.checkpoint.layout import locate_checkpoint
from model.nano.captions import change_phrase
from model.nano.clips import SHAPE, Clip, draw_clip, show, to_bytes
from model.nano.follower import follow
from model.nano.frames import late_colours, psnr, truth
from model.nano.motion import ApparentMotion, apparent_motion
from model.nano.paths import Motion, Move, camera_path, draw_motion, turned_apart_deg
from model.nano.studio import Made, Studio, Take
from model.nano.world import TIMES, WEATHERS, Mood
from model.types import SamplerSettings, UInt8Array, VideoShape

Row = dict[str, float]

# Moves on which right and wrong paths are compared: those that a mirrored yaw is another path for.
SCORED = (Move.YAW, Move.ORBIT, Move.MIXTURE, Move.MIXTURE)
SIGNS: dict[str, tuple[Move, Callable[[ApparentMotion, Motion], float]]] = {
    "yaw": (Move.YAW, lambda seen, told: seen.yaw * told.yaw),
    "pitch": (Move.PITCH, lambda seen, told: seen.pitch * told.pitch),
    "forward": (Move.FORWARD, lambda seen, told: seen.forward * told.forward),
}
WRONG = ("mirrored_yaw", "no_motion", "other_path")
_PATHS = ("right", *WRONG)
OTHER_APART_DEG = 10.0  # by which a wrong path's last view differs at the trained length


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial.

    Args:
        kind: `camera`, `longer`, `text`, or a name in `SIGNS`.
        number: Among those of its kind.
        seed: Of its world.
    """

    kind: str
    number: int
    seed: int


@dataclass(frozen=True, slots=True)
class Judge:
    """Makes trials of one checkpoint; each process that it is sent to loads its own.

    Args:
        checkpoint: What is judged.
        sampler: How it makes clips.
        shape: Size of the clips.
        device: Where clips are rendered and made.
    """

    checkpoint: Path
    sampler: SamplerSettings
    shape: VideoShape
    device: torch.device

    def __call__(self, trial: Trial) -> Row:
        """Figures of one trial; `finite` is 1 where all that was made is."""
        if trial.kind in SIGNS:
            return self._sign(trial)
        by_kind = {"camera": self._camera, "longer": self._longer, "text": self._text}
        return by_kind[trial.kind](trial)

    @property
    def twice(self) -> VideoShape:
        """Clips of twice the length."""
        return VideoShape(2 * self.shape.num_frames - 1, self.shape.height, self.shape.width)

    def _camera(self, trial: Trial) -> Row:
        clip = self._turning_clip(trial, self.shape)
        reconstructed = self._studio.reconstruct(clip.pixels_3NHW)
        return {**self._margins(clip, trial.seed), "vae": psnr(reconstructed, truth(clip))}

    def _longer(self, trial: Trial) -> Row:
        """The world and path of the camera's trial of this number, for twice as long."""
        return self._margins(self._turning_clip(trial, self.twice), trial.seed)

    def _sign(self, trial: Trial) -> Row:
        """Whether a pure motion seems to go the way it was told."""
        move, agreement = SIGNS[trial.kind]
        clip = draw_clip(
            trial.seed, device=self.device, shape=self.shape, move=move, still_mood=True
        )
        made = self._make(clip, clip.motion)
        agrees = agreement(apparent_motion(made.frames), clip.motion) > 0
        return {"agrees": float(agrees), "finite": float(made.is_finite)}

    def _text(self, trial: Trial) -> Row:
        """One first frame, two prompts: how far later frames move towards what each one says."""
        still = draw_clip(trial.seed, device=self.device, shape=self.shape, still_mood=True)
        changed = show(
            still.world.turning(_other_mood(still.world.before, trial.number)),
            still.motion,
            self.shape,
            device=self.device,
        )
        prompt = still.caption + change_phrase(changed.world, trial.number)
        made = [self._make(still, still.motion, text) for text in (still.caption, prompt)]
        shift = late_colours(truth(changed)) - late_colours(truth(still))
        step = late_colours(made[1].frames) - late_colours(made[0].frames)
        finite = float(all(each.is_finite for each in made))
        return {"progress": float(step @ shift / (shift @ shift)), "finite": finite}

    def _margins(self, clip: Clip, seed: int) -> Row:
        """PSNR with the right path, and by how much it beats the same seed with wrong ones.

        Likewise for the follower.
        """
        other = other_motion(clip.motion, seed)
        paths = dict(zip(_PATHS, (clip.motion, clip.motion.mirrored, Motion(), other), strict=True))
        frames = truth(clip)
        made = {name: self._make(clip, motion) for name, motion in paths.items()}
        right = made["right"].frames
        return {
            **_above_wrong({name: psnr(each.frames, frames) for name, each in made.items()}),
            **self._followed(clip, paths, frames),
            "first_frame": psnr(right[:1], frames[:1]),
            "finite": float(all(each.is_finite for each in made.values())),
        }

    def _followed(self, clip: Clip, paths: dict[str, Motion], frames: UInt8Array) -> Row:
        shape = VideoShape(*frames.shape[:3])
        found = {}
        for name, motion in paths.items():
            followed = follow(clip.world, motion, shape, device=self.device)
            found[name] = psnr(to_bytes(followed).cpu().numpy(), frames)
        return {f"follower_{name}": value for name, value in _above_wrong(found).items()}

    def _turning_clip(self, trial: Trial, shape: VideoShape) -> Clip:
        move = SCORED[trial.number % len(SCORED)]
        return draw_clip(trial.seed, device=self.device, shape=shape, move=move)

    def _make(self, clip: Clip, motion: Motion, prompt: str | None = None) -> Made:
        frames = truth(clip)
        shape = VideoShape(*frames.shape[:3])
        camera = camera_path(motion, len(frames))
        take = Take(frames[0], prompt or clip.caption, camera, clip.world.seed)
        return self._studio.make(take, shape)

    @property
    def _studio(self) -> Studio:
        return _load_studio(self.checkpoint, self.sampler, self.device)


def _above_wrong(decibels: Row) -> Row:
    """PSNR of the right path, and its distance to that of each wrong one."""
    right = decibels["right"]
    return {"right": right} | {name: right - decibels[name] for name in WRONG}


def other_motion(motion: Motion, seed: int) -> Motion:
    """A path of another clip, with another last view."""
    random = Random(f"other {seed}")
    while True:
        other = draw_motion(random, random.choice(SCORED))
        if turned_apart_deg(motion, other, SHAPE.num_frames) >= OTHER_APART_DEG:
            return other


@functools.cache
def _load_studio(checkpoint: Path, sampler: SamplerSettings, device: torch.device) -> Studio:
    return Studio(locate_checkpoint(checkpoint), device=device, sampler=sampler)


def _other_mood(before: Mood, number: int) -> Mood:
    """Another time of day for even numbers, another weather for odd ones."""
    names = WEATHERS if number % 2 else TIMES
    now = before.weather if number % 2 else before.time
    new = [name for name in names if name != now][number // 2 % 2]
    return Mood(before.time, new) if number % 2 else Mood(new, before.weather)
