"""The card of a trained checkpoint: what it was trained on and how long, what it can do and cannot.

python -m model.nano card CHECKPOINT FIGURES.json
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.nano.noise import LEAST
from model.nano.paths import (
    FASTEST_TILT_DEG_PER_S,
    FASTEST_TURN_DEG_PER_S,
    HURRIED_SHARE,
    WALKING_M_PER_S,
)

_FACTS = "training.json"
_WRONG = ("mirrored_yaw", "no_motion", "other_path")
_TEXT = """# lingbot-world-nano

A checkpoint of the architecture that lingbot-serve serves, small enough to ship and to run on two
CPU cores: umT5 text encoder, CLIP image encoder, Wan VAE, and two camera-conditioned DiT experts
with the image branch. It shows that the product works, and that the camera does what a request
says.

| | |
|---|---|
| Data | {clips} clips of worlds that `model/nano` draws and renders itself |
| Training of the VAE | {vae_steps} steps, {vae_minutes} minutes on {vae_hardware} |
| Training of experts and encoders | {dit_steps} steps, {dit_minutes} minutes on {dit_hardware} |
| Rendering and encoding | {clips_minutes} minutes on {clips_hardware} |
| Made for | 160x96 (ask for an area of 176x96), 33 frames, 12 steps |
| Made again with | `make nano` |
| Licence | Apache-2.0, that of the project |

## What it cannot do

* It knows its own worlds alone: ground, sky, columns, boxes and walls. A photograph comes out as
  something else.
* Other sizes than 160x96 were not trained, nor more than 19 steps: noise below a level of {least}
  was never seen.
* Turns and orbits were trained up to {turn:g} degrees per second, looking up and down up to
  {tilt:g}, walks at {walk:g} metres per second; {hurried:.0%} of the paths twice as fast.
* Nothing stands beside what the first frame shows: only ground, hills and sky come into view.
* Captions were trained in plain English of the kind that `model/nano/captions.py` writes.
* Where the camera comes to see what the first frame does not show, the result is a guess.

## Figures

{figures}
"""

_FOLLOWER = """The follower knows each point that the first frame shows and guesses the rest: so far
can paths be told apart (`model/nano/follower.py`).
"""


def write_card(directory: Path, facts: Mapping[str, Any]) -> None:
    """Writes what is known of a checkpoint before it is evaluated.

    Args:
        directory: Of the checkpoint.
        facts: What it was trained on, and how.
    """
    (directory / _FACTS).write_text(json.dumps(facts, indent=2))
    (directory / "README.md").write_text(
        _card(facts, "Not evaluated yet: `make world-eval SEED=0`.\n")
    )


def add_figures(directory: Path, figures: Mapping[str, Any]) -> None:
    """Writes the card anew with what `evaluate` found.

    Args:
        directory: Of the checkpoint.
        figures: The evaluation's object.
    """
    facts = json.loads((directory / _FACTS).read_text())
    (directory / "README.md").write_text(_card(facts, figures_table(figures)))


def figures_table(figures: Mapping[str, Any]) -> str:
    """The evaluation as a table: what was found, what the follower finds, what must hold."""
    camera, longer, text = figures["camera"], figures["longer"], figures["text"]
    rows = [
        (
            f"PSNR of the right path above {name.replace('_', ' ')}",
            _above(camera[name]),
            _above(camera[name]["follower"]),
            "2 dB; 90 %",
        )
        for name in _WRONG
    ]
    rows += [
        (f"Apparent {name} goes the way it was told", f"{share:.1%}", "", "95 %")
        for name, share in figures["signs"].items()
    ]
    rows += [
        ("VAE reconstruction", f"{camera['vae_db']} dB", "", "30 dB"),
        ("First frame, worst clip", f"{camera['first_frame_min_db']} dB", "", "26 dB"),
        (
            "Later frames move towards the prompt's mood",
            f"{text['share']:.1%} of pairs",
            "",
            "80 %",
        ),
        ("Finite at twice the length", f"{longer['finite']:.1%}", "", "100 %"),
    ]
    rows += [
        (
            f"Margin over {name.replace('_', ' ')} kept at twice the length",
            _kept(longer[name]),
            _kept(longer[name]["follower"]),
            "80 %",
        )
        for name in _WRONG
    ]
    head = ["| what | found | of the follower | wanted |", "|---|---|---|---|"]
    lines = [*head, *(f"| {' | '.join(row)} |" for row in rows)]
    moves = ", ".join(f"{count} {move}" for move, count in camera["moves"].items())
    sampler = figures["sampler"]
    how = (
        f"`make world-eval SEED={figures['seed']}` on {figures['hardware']}: "
        f"{camera['clips']} worlds that were not in the data, paths of {moves}; "
        f"{sampler['num_inference_steps']} steps, guidance {sampler['guidance_scale']}.\n"
    )
    return "\n".join([how, *lines, "", _FOLLOWER])


def _above(margin: Mapping[str, Any]) -> str:
    return "{margin_db} dB on average; at least 2 dB in {share:.1%}".format(**margin)


def _kept(longer: Mapping[str, Any]) -> str:
    return "none to keep" if longer["kept"] is None else f"{longer['kept']:.1%}"


def _card(facts: Mapping[str, Any], figures: str) -> str:
    parts = {"vae": facts["vae"], "dit": facts["dit"], "clips": facts["clips"]}
    minutes = {f"{name}_minutes": f"{part['seconds'] / 60:.1f}" for name, part in parts.items()}
    hardware = {f"{name}_hardware": part["hardware"] for name, part in parts.items()}
    steps = {f"{name}_steps": parts[name]["training"]["steps"] for name in ("vae", "dit")}
    trained = {
        "least": LEAST,
        "turn": FASTEST_TURN_DEG_PER_S,
        "tilt": FASTEST_TILT_DEG_PER_S,
        "walk": WALKING_M_PER_S,
        "hurried": HURRIED_SHARE,
    }
    clips = facts["clips"]["clips"]
    return _TEXT.format(clips=clips, figures=figures, **trained, **minutes, **hardware, **steps)
