"""Which jobs survive which death, and how soon do they go on? Real processes, real signals.

    python -m benchmarks.chaos
    python -m benchmarks.chaos --only rank:denoising --only gateway:*

Every part of the service is struck while a job is queued, encoding, denoising, decoding and being
stored, with other jobs beside it. Each cell's row goes to `docs/benchmarks/chaos.json` at once, so
that a run may be stopped and gone on with (`--resume`). Exit code 1 if a job was lost, hung, failed
without a named cause, or was denoised again after its latents existed.
"""

import argparse
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from fnmatch import fnmatch
from itertools import groupby
from pathlib import Path

import torch

from benchmarks.chaos.cell import run_cell
from benchmarks.chaos.environment import RAY_ENVIRONMENT
from benchmarks.chaos.service import Service, running_service
from benchmarks.chaos.states import State, StateMissedError
from benchmarks.chaos.strikes import Strike, num_gangs
from lingbot_serve.bench.chaos import FILE, ChaosRow
from lingbot_serve.bench.machine import origin
from lingbot_serve.bench.records import Origin, add_rows, read_rows

_TRIES = 3
Cell = tuple[Strike, State]


def cells(patterns: list[str]) -> Iterator[Cell]:
    """The cells that match any pattern such as `rank:denoising` or `*:storing`."""
    for what in Strike:
        for state in State:
            if any(fnmatch(f"{what.value}:{state.value}", pattern) for pattern in patterns):
                yield what, state


def attempt(service: Service, cell: Cell, where: Origin) -> ChaosRow | None:
    """Runs a cell, again if its state was missed; None if that was always so or it broke."""
    for _ in range(_TRIES):
        try:
            return run_cell(service, *cell, where)
        except StateMissedError as error:
            print(f"  missed: {error}", flush=True)
        except Exception:
            # The other cells have their turn all the same; this one counts as a fault.
            traceback.print_exc()
            return None
    return None


def run(wanted: list[Cell], results: Path, commit: str | None) -> int:
    """Runs cells and writes each row down at once.

    Returns:
        Number of cells with a fault.
    """
    where = origin(torch.device("cpu"), commit)
    num_faulty = 0
    for gangs, cells_of_it in groupby(sorted(wanted, key=_num_gangs), _num_gangs):
        with tempfile.TemporaryDirectory(prefix="chaos-") as name:
            folder = Path(name)
            folder.chmod(0o755)  # PostgreSQL runs as somebody else
            with running_service(folder, num_gangs=gangs) as service:
                for cell in cells_of_it:
                    start_s = time.monotonic()
                    row = attempt(service, cell, where)
                    if row is not None:
                        add_rows(results, [row], ChaosRow)
                    num_faulty += row is None or bool(row.faults)
                    spent_s = time.monotonic() - start_s
                    print(f"{describe(cell, row)} [{spent_s:.0f} s]", flush=True)
    return num_faulty


def _num_gangs(cell: Cell) -> int:
    return num_gangs(cell[0])


def describe(cell: Cell, row: ChaosRow | None) -> str:
    """A row in one line."""
    name = ":".join(part.value for part in cell)
    if row is None:
        return f"{name} BROKEN"
    verdict = f"FAULT {row.faults}" if row.faults else "ok"
    return (
        f"{name} {verdict}: {row.outcome} after {row.ended_s} s (resumed {row.resumed_s} s), "
        f"{row.attempts} attempts, {row.denoises} denoises, beside it {', '.join(row.bystanders)}"
    )


def main() -> int:
    """Runs the matrix."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", action="append", metavar="STRIKE:STATE", help="may be repeated")
    parser.add_argument("--resume", action="store_true", help="leave out cells that have a row")
    parser.add_argument("--results", type=Path, default=FILE)
    parser.add_argument("--commit", help="of this tree, where it has no .git to ask")
    options = parser.parse_args()
    os.environ.update(RAY_ENVIRONMENT)
    done = {(row.strike, row.state) for row in read_rows(options.results, ChaosRow)}
    wanted = [
        (what, state)
        for what, state in cells(options.only or ["*"])
        if not (options.resume and (what.value, state.value) in done)
    ]
    start_s = time.monotonic()
    num_faulty = run(wanted, options.results, options.commit) if wanted else 0
    print(f"{len(wanted)} cells, {num_faulty} with faults, {time.monotonic() - start_s:.0f} s")
    return 1 if num_faulty else 0


if __name__ == "__main__":
    sys.exit(main())
