"""What a benchmark ran on."""

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from lingbot_serve.bench.records import Origin

# fa3-fwd is FlashAttention-3's wheel; the rest speaks for itself.
_PACKAGES = ("ray", "triton", "fa3-fwd", "flash-attn")


def origin(device: torch.device, commit: str | None) -> Origin:
    """Describes this machine and this tree.

    Args:
        device: That computes.
        commit: Where the tree has no `.git` to ask; None asks it.
    """
    on_gpu = device.type == "cuda"
    return Origin(
        gpu=torch.cuda.get_device_name(device) if on_gpu else "cpu",
        driver=_driver() if on_gpu else "",
        versions=_versions(),
        date=datetime.now(timezone.utc).date().isoformat(),
        commit=commit or _commit(),
        host_cpus=os.cpu_count() or 0,
    )


def _versions() -> Mapping[str, str]:
    found = {"python": platform.python_version(), "torch": torch.__version__}
    if torch.version.cuda is not None:
        found["cuda"] = torch.version.cuda
        found["cudnn"] = str(torch.backends.cudnn.version())
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _driver() -> str:
    return _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0")


def _commit() -> str:
    root = Path(__file__).parents[2]
    return _output("git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12")


def _output(program: str, *arguments: str) -> str:
    """First line that a program prints; "unknown" where it is missing or fails."""
    if shutil.which(program) is None:
        return "unknown"
    run = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    return run.stdout.partition("\n")[0].strip() or "unknown"
