"""Makes lingbot-world-nano from nothing, and judges it; one command for each part.

    python -m model.nano data runs/data
    python -m model.nano vae runs/data runs/vae.pt
    python -m model.nano encode runs/data runs/vae.pt runs/latents
    python -m model.nano dit runs/latents runs/dit.pt
    python -m model.nano export runs/latents runs/vae.pt runs/dit.pt examples/nano
    python -m model.nano evaluate examples/nano --seed 0 > figures.json
    python -m model.nano card examples/nano figures.json
    python -m model.nano sheet examples/nano docs/nano.jpg

What was cut off goes on: `data` and `encode` keep finished shards, `vae` and `dit` take `--resume`.
`--toy` makes all of it small enough for seconds on a laptop; its worlds cannot be recognised.
"""

import argparse
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from model.nano.card import add_figures
from model.nano.clips import SHAPE
from model.nano.dataset import write_dataset
from model.nano.dit_training import DiTTraining, train_dit
from model.nano.encoded import encode_clips
from model.nano.export import export
from model.nano.sizes import NANO, TOY, NanoSize
from model.nano.training import Keeping, StoppedEarly
from model.nano.vae_training import VAETraining, train_vae
from model.types import VideoShape

_TOY_SHAPE = VideoShape(num_frames=9, height=32, width=48)
_GUIDANCE = 1.5
_WORKER_BYTES = 8 * 2**30  # of a GPU, for each process that renders
_FILES = {
    "data": ("data",),
    "vae": ("data", "out"),
    "encode": ("data", "vae", "out"),
    "dit": ("data", "out"),
    "export": ("data", "vae", "dit", "directory"),
    "evaluate": ("checkpoint",),
    "card": ("checkpoint", "figures"),
    "sheet": ("checkpoint", "out"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; `argv` defaults to the process's own arguments."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    command: Callable[[argparse.Namespace], object] = arguments.command
    try:
        result = command(arguments)
    except StoppedEarly as stopped:
        raise SystemExit(f"stopped {stopped}; --resume goes on from there") from stopped
    print(json.dumps(result, indent=2))


def _data(arguments: argparse.Namespace) -> object:
    size, shape = _size(arguments)
    write_dataset(
        arguments.data,
        num_clips=arguments.clips or (8 if arguments.toy else 5000),
        device=arguments.device,
        vocab_size=size.vocab_size,
        shape=shape,
        workers=_workers(arguments),
    )
    return {"data": str(arguments.data)}


def _vae(arguments: argparse.Namespace) -> object:
    if _is_done(arguments):
        return {"vae": str(arguments.out)}
    size, _ = _size(arguments)
    training = VAETraining(seed=arguments.seed, compiled=_compiled(arguments))
    if arguments.toy:
        training = replace(training, steps=3, batch=2, frames=5, validated=2)
    if arguments.steps:
        training = replace(training, steps=arguments.steps)
    reached = train_vae(
        arguments.data,
        arguments.out,
        size,
        training,
        device=arguments.device,
        keeping=_keeping(arguments),
    )
    return {"held_out_psnr_db": round(reached, 2)}


def _encode(arguments: argparse.Namespace) -> object:
    size, shape = _size(arguments)
    encode_clips(
        arguments.data,
        arguments.vae,
        arguments.out,
        size,
        num_clips=arguments.clips or (8 if arguments.toy else 12_000),
        shape=shape,
        device=arguments.device,
        workers=_workers(arguments),
    )
    return {"latents": str(arguments.out)}


def _dit(arguments: argparse.Namespace) -> object:
    if _is_done(arguments):
        return {"dit": str(arguments.out)}
    size, _ = _size(arguments)
    training = DiTTraining(seed=arguments.seed, compiled=_compiled(arguments))
    if arguments.toy:
        training = replace(training, steps=3, batch=2, no_camera_every=2)
    if arguments.steps:
        training = replace(training, steps=arguments.steps)
    if arguments.camera_share:
        training = replace(training, camera_share=arguments.camera_share)
    high, low = train_dit(
        arguments.data,
        arguments.out,
        size,
        training,
        device=arguments.device,
        keeping=_keeping(arguments),
    )
    return {"high_noise_error": round(high, 4), "low_noise_error": round(low, 4)}


def _export(arguments: argparse.Namespace) -> object:
    size, _ = _size(arguments)
    num_bytes = export(arguments.data, arguments.vae, arguments.dit, arguments.directory, size)
    return {"bytes": num_bytes}


# What judges brings in the server's sampler, and so diffusers, which training does without.
def _evaluate(arguments: argparse.Namespace) -> object:
    from model.nano.evaluate import Amount, evaluate
    from model.nano.studio import sampler
    from model.nano.trials import Judge

    amount = Amount(camera=16, signs=6, text=8, longer=16) if arguments.quick else Amount()
    if arguments.toy:
        amount = Amount(camera=2, signs=1, text=1, longer=2)
    settings = sampler(2 if arguments.toy else arguments.steps, arguments.guidance)
    _, shape = _size(arguments)
    judge = Judge(arguments.checkpoint, settings, shape, arguments.device)
    return evaluate(judge, arguments.seed, amount, workers=_workers(arguments))


def _sheet(arguments: argparse.Namespace) -> object:
    from model.checkpoint.layout import locate_checkpoint
    from model.nano.sheet import write_sheet
    from model.nano.studio import Studio, sampler

    settings = sampler(2 if arguments.toy else arguments.steps, arguments.guidance)
    paths = locate_checkpoint(arguments.checkpoint)
    studio = Studio(paths, device=arguments.device, sampler=settings)
    _, shape = _size(arguments)
    write_sheet(studio, arguments.out, seed=arguments.seed, device=arguments.device, shape=shape)
    return {"sheet": str(arguments.out)}


def _card(arguments: argparse.Namespace) -> object:
    add_figures(arguments.checkpoint, json.loads(arguments.figures.read_text()))
    return {"card": str(arguments.checkpoint / "README.md")}


def _size(arguments: argparse.Namespace) -> tuple[NanoSize, VideoShape]:
    return (TOY, _TOY_SHAPE) if arguments.toy else (NANO, SHAPE)


def _is_done(arguments: argparse.Namespace) -> bool:
    done: bool = arguments.resume and arguments.out.exists()
    return done


def _compiled(arguments: argparse.Namespace) -> bool:
    return arguments.device.type == "cuda" and not arguments.eager


def _keeping(arguments: argparse.Namespace) -> Keeping:
    return Keeping(resume=arguments.resume, limit_s=arguments.limit_s)


def _workers(arguments: argparse.Namespace) -> int:
    """Several where there is a GPU: one cannot keep it busy, and its memory must hold them."""
    workers: int | None = arguments.workers
    if workers is None and arguments.device.type == "cuda":
        memory = torch.cuda.get_device_properties(arguments.device).total_memory
        workers = min((os.cpu_count() or 1) - 1, memory // _WORKER_BYTES)
    return max(1, workers or 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m model.nano",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = parser.add_subparsers(required=True)
    commands = {
        "data": _data,
        "vae": _vae,
        "encode": _encode,
        "dit": _dit,
        "export": _export,
        "evaluate": _evaluate,
        "card": _card,
        "sheet": _sheet,
    }
    for name, command in commands.items():
        part = names.add_parser(name)
        part.set_defaults(command=command)
        for file in _FILES[name]:
            part.add_argument(file, type=Path)
        _add_options(part, name)
    return parser


def _add_options(part: argparse.ArgumentParser, name: str) -> None:
    part.add_argument("--toy", action="store_true", help="tiny sizes, for trying it out")
    part.add_argument("--device", type=torch.device, default=_default_device())
    part.add_argument("--seed", type=int, default=0)
    if name in ("data", "encode"):
        part.add_argument("--clips", type=int, help="how many to render")
    if name in ("data", "encode", "evaluate"):
        part.add_argument("--workers", type=int, help="processes")
    if name in ("vae", "dit"):
        part.add_argument("--steps", type=int, help="batches to train on")
        part.add_argument("--resume", action="store_true", help="go on from the last snapshot")
        part.add_argument(
            "--limit-s", type=float, help="seconds after which to stop, to be resumed"
        )
        part.add_argument("--eager", action="store_true", help="no torch.compile")
    if name == "dit":
        part.add_argument("--camera-share", type=float, help="of the rate, for what reads rays")
    if name == "evaluate":
        part.add_argument("--quick", action="store_true", help="a quarter of the trials")
    if name in ("evaluate", "sheet"):
        part.add_argument("--steps", type=int, default=12, help="of the sampler")
        part.add_argument("--guidance", type=float, default=_GUIDANCE)


def _default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    main()
