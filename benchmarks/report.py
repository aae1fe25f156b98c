"""Where benchmark results go, and what they were measured on."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

FOLDER = Path("docs/benchmarks")


def write_report(name: str, results: dict[str, object]) -> None:
    """Writes and prints one benchmark's results.

    Args:
        name: Of the file, without its ending.
        results: Numbers whose names carry their units.
    """
    machine = {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "ray": version("ray"),
        "torch": version("torch"),
        "load_average_1min": round(os.getloadavg()[0], 1),
    }
    text = json.dumps({"machine": machine, **results}, indent=2)
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.json").write_text(text + "\n")
    print(text)


def median_and_p95_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile of some durations, in milliseconds."""
    return {
        "median_ms": round(statistics.median(seconds) * 1e3, 1),
        "p95_ms": round(statistics.quantiles(seconds, n=20)[-1] * 1e3, 1),
    }
