"""Makes lingbot-world-nano from nothing, and judges it; one command for each part.

    python -m model.nano data runs/data
    python -m model.nano vae runs/data runs/vae.pt
    python -m model.nano dit runs/data runs/vae.pt runs/dit.pt
    python -m model.nano export runs/data runs/vae.pt runs/dit.pt examples/nano
    python -m model.nano evaluate examples/nano --seed 0
    python -m model.nano sheet examples/nano docs/nano.png

`--toy` makes all of it small enough for seconds on a laptop; its worlds cannot be recognised.
"""

import argparse
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from model.checkpoint.layout import locate_checkpoint
from model.nano.clips import SHAPE
from model.nano.dataset import write_dataset
from model.nano.dit_training import DiTTraining, train_dit
from model.nano.evaluate import Amount, Evaluation
from model.nano.export import export
from model.nano.sheet import write_sheet
from model.nano.sizes import NANO, TOY
from model.nano.studio import SAMPLER, Studio
from model.nano.vae_training import VAETraining, train_vae
from model.types import VideoShape

_TOY_SHAPE = VideoShape(num_frames=9, height=32, width=48)
_TOY_AMOUNT = Amount(clips=2, signs=1, pairs=1, longer=2, shape=_TOY_SHAPE)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; `argv` defaults to the process's own arguments."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    command: Callable[[argparse.Namespace], object] = arguments.command
    result = command(arguments)
    print(json.dumps(result, indent=2))


def _data(arguments: argparse.Namespace) -> object:
    size, shape = (TOY, _TOY_SHAPE) if arguments.toy else (NANO, SHAPE)
    write_dataset(
        arguments.data,
        num_clips=arguments.clips or (8 if arguments.toy else 24_000),
        device=arguments.device,
        vocab_size=size.vocab_size,
        shape=shape,
    )
    return {"data": str(arguments.data)}


def _vae(arguments: argparse.Namespace) -> object:
    training = VAETraining(seed=arguments.seed)
    if arguments.toy:
        training = replace(training, steps=3, batch=2, frames=5)
    if arguments.steps:
        training = replace(training, steps=arguments.steps)
    size = TOY if arguments.toy else NANO
    reached = train_vae(arguments.data, arguments.out, size, training, device=arguments.device)
    return {"psnr_db": round(reached, 2)}


def _dit(arguments: argparse.Namespace) -> object:
    training = DiTTraining(seed=arguments.seed, compiled=arguments.device.type == "cuda")
    if arguments.toy:
        training = replace(training, steps=3, batch=2, compiled=False)
    if arguments.steps:
        training = replace(training, steps=arguments.steps)
    size = TOY if arguments.toy else NANO
    error = train_dit(
        arguments.data, arguments.vae, arguments.out, size, training, device=arguments.device
    )
    return {"low_noise_error": round(error, 4)}


def _export(arguments: argparse.Namespace) -> object:
    size = TOY if arguments.toy else NANO
    num_bytes = export(arguments.data, arguments.vae, arguments.dit, arguments.directory, size)
    return {"bytes": num_bytes}


def _evaluate(arguments: argparse.Namespace) -> object:
    studio = _studio(arguments)
    amount = _TOY_AMOUNT if arguments.toy else Amount()
    return {
        "seed": arguments.seed,
        **Evaluation(studio, arguments.seed, amount, arguments.device).run(),
    }


def _sheet(arguments: argparse.Namespace) -> object:
    shape = _TOY_SHAPE if arguments.toy else SHAPE
    write_sheet(
        _studio(arguments),
        arguments.out,
        seed=arguments.seed,
        device=arguments.device,
        shape=shape,
    )
    return {"sheet": str(arguments.out)}


def _studio(arguments: argparse.Namespace) -> Studio:
    sampler = replace(
        SAMPLER, guidance_scale=arguments.guidance, guidance_scale_2=arguments.guidance
    )
    if arguments.toy:
        sampler = replace(sampler, num_inference_steps=2)
    paths = locate_checkpoint(arguments.checkpoint)
    return Studio(paths, device=arguments.device, sampler=sampler)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m model.nano", description=__doc__)
    commands = parser.add_subparsers(required=True)
    training = {"data": _data, "vae": _vae, "dit": _dit, "export": _export}
    judging = {"evaluate": _evaluate, "sheet": _sheet}
    files = {
        "data": ("data",),
        "vae": ("data", "out"),
        "dit": ("data", "vae", "out"),
        "export": ("data", "vae", "dit", "directory"),
        "evaluate": ("checkpoint",),
        "sheet": ("checkpoint", "out"),
    }
    for name, command in {**training, **judging}.items():
        part = commands.add_parser(name)
        part.set_defaults(command=command)
        for file in files[name]:
            part.add_argument(file, type=Path)
        part.add_argument("--toy", action="store_true", help="tiny sizes, for trying it out")
        part.add_argument("--device", type=torch.device, default=_default_device())
        part.add_argument("--seed", type=int, default=0)
        if name == "data":
            part.add_argument("--clips", type=int, help="how many to render")
        if name in ("vae", "dit"):
            part.add_argument("--steps", type=int, help="batches to train on")
        if name in judging:
            part.add_argument("--guidance", type=float, default=SAMPLER.guidance_scale)
    return parser


def _default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    main()
