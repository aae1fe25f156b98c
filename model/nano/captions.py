"""Captions that say what a clip shows, in plain English."""

import torch
from torch import Tensor

from model.nano.world import KINDS, Mood, World

_VISIBLE = 0.012  # share of a frame from which on a thing is worth a word
_MOST_NAMED = 5
_TIMES = {"day": "in daylight", "sunset": "at sunset", "night": "at night"}
_WEATHERS = {"clear": "under a clear sky", "fog": "in fog", "snow": "in snow"}
_BECOMES = {
    "day": ("day breaks", "it becomes day"),
    "sunset": ("the sun sets", "evening comes"),
    "night": ("night falls", "it becomes night"),
    "clear": ("the sky clears", "the weather becomes clear"),
    "fog": ("fog comes in", "it becomes foggy"),
    "snow": ("snow covers the ground", "it becomes snowy"),
}
_NUMBERS = ("", "a", "two", "three", "four", "five", "six")
_SCENES = ("{things} on {ground}", "{ground} with {things}", "A view of {ground} and {things}")
_GROUNDS = {
    "meadow": "a green meadow",
    "sand": "yellow sand",
    "stone": "grey stone",
    "red earth": "red earth",
}


def caption(world: World, seen: Tensor, *, variant: int = 0) -> str:
    """What a clip shows: ground, things, mood, and how the mood changes.

    Args:
        world: What was rendered.
        seen: Share of each frame that shows each thing, [N, P].
        variant: Chooses between ways of saying the same.
    """
    scene = _SCENES[variant % len(_SCENES)].format(
        things=_things(world, seen), ground=_GROUNDS[world.ground]
    )
    first = scene[0].upper() + scene[1:]
    return f"{first}, {mood_phrase(world.before)}.{change_phrase(world, variant)}"


def mood_phrase(mood: Mood) -> str:
    """A mood in words."""
    return f"{_TIMES[mood.time]}, {_WEATHERS[mood.weather]}"


def change_phrase(world: World, variant: int = 0) -> str:
    """How the mood changes, as a sentence with a space before it; empty where it stays."""
    before, after = world.before, world.after
    names = [b for a, b in ((before.time, after.time), (before.weather, after.weather)) if a != b]
    return "".join(f" Then {_BECOMES[name][variant % 2]}." for name in names)


def _things(world: World, seen: Tensor) -> str:
    """Those that are seen best, equal ones counted."""
    best = seen.amax(0)
    order = torch.argsort(best, descending=True).tolist()
    named = [p for p in order if best[p] >= _VISIBLE][:_MOST_NAMED]
    counts: dict[tuple[str, str], int] = {}
    for thing in named:
        key = (world.colours[thing], KINDS[thing])
        counts[key] = counts.get(key, 0) + 1
    words = [_counted(number, colour, kind) for (colour, kind), number in counts.items()]
    if not words:
        return "nothing else"
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _counted(number: int, colour: str, kind: str) -> str:
    plural = {"column": "columns", "box": "boxes", "wall": "walls"}
    if number > 1:
        return f"{_NUMBERS[number]} {colour} {plural[kind]}"
    return f"{'an' if colour == 'orange' else 'a'} {colour} {kind}"
