"""Procedural worlds: ground, sky, hills, a sun, and things that stand around.

A world is a handful of numbers drawn from a seed, so that anybody can draw it again. Its mood (time
of day and weather) may change while a clip runs, from one that the first frame shows to one that
only the text tells.
"""

import math
from dataclasses import dataclass, replace
from random import Random

import torch
from torch import Tensor

from model.nano.paths import EYE_HEIGHT_M
from model.types import FPS

# Columns first, so that which is which is known without looking.
KINDS = ("column",) * 6 + ("box",) * 5 + ("wall",)
NUM_THINGS = len(KINDS)
NUM_COLUMNS = KINDS.count("column")
CLEARANCE_M = 1.1  # between a path and whatever stands there
# To either side of the first view's middle, radians: as far as it shows.
_AZIMUTH = 0.7
_DISTANCE_M = (5.0, 16.0)  # what is nearer hides much of what later frames show
_CHANGING = 1 / 3  # share of worlds whose mood changes
_CHANGE_FROM_S, _CHANGE_S = 0.2, 1.15

COLOURS = {
    "red": (0.85, 0.13, 0.12),
    "orange": (0.95, 0.52, 0.10),
    "yellow": (0.93, 0.83, 0.18),
    "green": (0.13, 0.58, 0.22),
    "blue": (0.14, 0.29, 0.83),
    "purple": (0.52, 0.20, 0.68),
    "white": (0.93, 0.93, 0.93),
    "black": (0.10, 0.10, 0.12),
}
GROUNDS = {
    "meadow": ((0.17, 0.44, 0.12), (0.46, 0.70, 0.26)),
    "sand": ((0.66, 0.50, 0.28), (0.94, 0.84, 0.60)),
    "stone": ((0.32, 0.32, 0.36), (0.66, 0.66, 0.66)),
    "red earth": ((0.42, 0.18, 0.12), (0.76, 0.44, 0.30)),
}
TIMES = ("day", "sunset", "night")
WEATHERS = ("clear", "fog", "snow")

# Zenith, horizon, light, ambient by time of day.
_SKIES = {
    "day": ((0.20, 0.45, 0.85), (0.72, 0.85, 0.96), (1.00, 0.97, 0.90), 0.45),
    "sunset": ((0.28, 0.22, 0.48), (0.98, 0.55, 0.25), (1.00, 0.62, 0.35), 0.36),
    "night": ((0.03, 0.05, 0.16), (0.13, 0.17, 0.34), (0.42, 0.48, 0.72), 0.40),
}
_FOG_PER_M = {"clear": 0.008, "fog": 0.08, "snow": 0.015}
_WHITENING = {"clear": 0.0, "fog": 0.0, "snow": 0.75}


@dataclass(frozen=True, slots=True)
class Mood:
    """Time of day and weather, by name."""

    time: str
    weather: str


@dataclass(frozen=True, slots=True)
class Light:
    """A mood as the renderer takes it, for each frame: [N, 3] or [N, 1] each.

    Args:
        zenith: Colour of the sky above.
        horizon: Colour of the sky at the horizon, of the far hills' haze and of fog.
        sun: Colour of the direct light.
        ambient: Strength of the light from everywhere.
        fog: Share of the light lost per metre.
        whitening: How far snow covers what faces upwards.
    """

    zenith: Tensor
    horizon: Tensor
    sun: Tensor
    ambient: Tensor
    fog: Tensor
    whitening: Tensor


@dataclass(frozen=True, slots=True)
class World:
    """What stands where; lengths are metres.

    Args:
        seed: What it was drawn from.
        ground: Name in `GROUNDS`.
        colours: Of each thing, by name.
        centres: Of the things, [NUM_THINGS, 3].
        halves: Half sizes, [NUM_THINGS, 3]; of columns the radius, half the height, the radius.
        headings: Turn of each about the vertical, radians [NUM_THINGS].
        bands: Stripes per metre of each, [NUM_THINGS].
        hills: Amplitudes and phases of the skyline, [2, 6].
        hill_colour: RGB.
        sun: Direction towards it, unit [3].
        tiles: Ground pattern's wave numbers and phases, [2, 2].
        before: Mood at the beginning.
        after: Mood at the end.
    """

    seed: int
    ground: str
    colours: tuple[str, ...]
    centres: Tensor
    halves: Tensor
    headings: Tensor
    bands: Tensor
    hills: Tensor
    hill_colour: Tensor
    sun: Tensor
    tiles: Tensor
    before: Mood
    after: Mood

    def turning(self, after: Mood) -> "World":
        """The same world on its way to another mood."""
        return replace(self, after=after)


def draw_world(seed: int, path: Tensor) -> World:
    """Draws a world around a path.

    Args:
        seed: Same seed and path, same world.
        path: Poses [N, 4, 4], which nothing may stand in the way of.
    """
    random = Random(f"world {seed}")  # a stream of its own: paths are drawn from the same seeds
    before = Mood(random.choice(TIMES), random.choice(WEATHERS))
    after = _other_mood(random, before) if random.random() < _CHANGING else before
    centres, halves = _places(random, path)
    return World(
        seed=seed,
        ground=random.choice(list(GROUNDS)),
        colours=tuple(random.choice(list(COLOURS)) for _ in KINDS),
        centres=torch.tensor(centres),
        halves=torch.tensor(halves),
        headings=torch.tensor(_numbers(random, -1.57, 1.57, NUM_THINGS)),
        bands=torch.tensor(_numbers(random, 0.3, 0.9, NUM_THINGS)),
        hills=torch.tensor([_numbers(random, 0.1, 0.5, 6), _numbers(random, 0, 6.28, 6)]),
        hill_colour=torch.tensor(_numbers(random, 0.15, 0.55, 3)),
        sun=_direction(random.uniform(-3.14, 3.14), random.uniform(0.25, 0.8)),
        tiles=torch.tensor([_numbers(random, 0.8, 1.6, 2), _numbers(random, 0, 6.28, 2)]),
        before=before,
        after=after,
    )


def light(world: World, num_frames: int, *, fps: int = FPS) -> Light:
    """The light of each frame: the first moments as before, and from 1.4 seconds on as after."""
    time_s = torch.arange(num_frames) / fps
    share = ((time_s - _CHANGE_FROM_S) / _CHANGE_S).clamp(0, 1)[:, None]
    return Light(
        *(
            a + (b - a) * share
            for a, b in zip(_still(world.before), _still(world.after), strict=True)
        )
    )


def _still(mood: Mood) -> tuple[Tensor, ...]:
    zenith, horizon, sun, ambient = _SKIES[mood.time]
    values = [torch.tensor(zenith), torch.tensor(horizon), torch.tensor(sun)]
    if mood.weather != "clear":  # clouds: an even, greyer sky and little sun
        grey = values[1].mean() * torch.ones(3)
        values[0] = 0.35 * values[0] + 0.65 * grey
        values[1] = 0.5 * values[1] + 0.5 * grey
        values[2] = 0.45 * values[2]
        ambient *= 1.35
    scalars = (ambient, _FOG_PER_M[mood.weather], _WHITENING[mood.weather])
    return (*(v[None] for v in values), *(torch.tensor([[s]]) for s in scalars))


def _other_mood(random: Random, before: Mood) -> Mood:
    """Another time of day or another weather."""
    if random.random() < 0.5:
        return Mood(random.choice([t for t in TIMES if t != before.time]), before.weather)
    return Mood(before.time, random.choice([w for w in WEATHERS if w != before.weather]))


def _places(random: Random, path: Tensor) -> tuple[list[list[float]], list[list[float]]]:
    """Centres and half sizes, each the first of many tries that leaves the path free."""
    walked: list[tuple[float, float]] = [tuple(p) for p in path[::4, [0, 2], 3].tolist()]
    centres: list[list[float]] = []
    halves = [_half_size(random, kind) for kind in KINDS]
    for half in halves:
        taken = [(x, z) for x, _, z in centres]
        place = _free_place(random, math.hypot(half[0], half[2]), walked, taken)
        centres.append([place[0], EYE_HEIGHT_M - half[1], place[1]])
    return centres, halves


def _free_place(
    random: Random,
    reach: float,
    walked: list[tuple[float, float]],
    taken: list[tuple[float, float]],
) -> tuple[float, float]:
    for _ in range(40):
        distance, azimuth = random.uniform(*_DISTANCE_M), random.uniform(-_AZIMUTH, _AZIMUTH)
        place = (distance * math.sin(azimuth), distance * math.cos(azimuth))
        clear = all(math.dist(place, p) > reach + CLEARANCE_M for p in walked)
        if clear and all(math.dist(place, p) > 1.6 for p in taken):
            return place
    return (0.0, -60.0)  # nowhere to be seen


def _half_size(random: Random, kind: str) -> list[float]:
    if kind == "column":
        radius = random.uniform(0.25, 0.6)
        return [radius, random.uniform(0.8, 2.4), radius]
    if kind == "box":
        return _numbers(random, 0.4, 1.2, 3)
    return [random.uniform(2, 4), random.uniform(0.5, 1.1), random.uniform(0.15, 0.3)]


def _direction(azimuth: float, height: float) -> Tensor:
    level = math.cos(height)
    return torch.tensor([level * math.sin(azimuth), -math.sin(height), level * math.cos(azimuth)])


def _numbers(random: Random, low: float, high: float, count: int) -> list[float]:
    return [random.uniform(low, high) for _ in range(count)]
