"""The command line as a user runs it: real processes of this tree."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.processes import living

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
INPUTS = [
    *("--image", str(EXAMPLES / "image.png")),
    *("--prompt-file", str(EXAMPLES / "prompt.txt")),
    *("--camera", str(EXAMPLES / "camera")),
    *("--size", "112x64"),
]
SHORT = ["--num-frames", "9", "--steps", "2", "--seed", "7"]


@dataclass(frozen=True)
class ServeProcess:
    """A `lingbot-serve serve` that is ready."""

    process: subprocess.Popen[str]
    url: str
    folder: Path


def start(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    """Runs the command in a folder of its own, with this tree's packages."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "lingbot_serve", *arguments]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # A shell that runs the tests in the background has every process below it ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finish(process: subprocess.Popen[str], timeout_s: float) -> tuple[int, str]:
    """Waits for a command's end and returns its exit code and what it printed."""
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, output


def processes_of(process: subprocess.Popen[str], timeout_s: float) -> list[psutil.Process]:
    """All that a command has started by its end."""
    started: set[psutil.Process] = set()
    deadline_s = time.monotonic() + timeout_s
    while process.poll() is None and time.monotonic() < deadline_s:
        started |= set(psutil.Process(process.pid).children(recursive=True))
        time.sleep(0.5)
    return list(started)


def all_gone(processes: list[psutil.Process]) -> bool:
    """Whether every process ends within half a minute."""
    _, left = psutil.wait_procs(processes, timeout=30)
    return living(left) == []
