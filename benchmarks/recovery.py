"""How fast does a gang notice, stop and come back? Real ranks, real signals, over HTTP.

    python -m benchmarks.recovery

Each trial runs one long clip with another waiting behind it, strikes the first, and takes the
seconds until its client hears of it and until the second clip's first step is finished. The
step's own length is measured in the same run, since it bounds how soon a gang can be free.

A hundred cancels of each kind make a chain: the clip that waited is the next one to be cancelled,
at any moment of its steps. What must hold is the time until the gang begins with the next clip.
"""

import argparse
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
from ray import serve

from benchmarks.cancels import CANCELS, CLIP, LONG, cancel_chain, cancel_report, wait_encoded
from benchmarks.report import write_report
from deployments.config import ServeConfig
from deployments.launch import start_local
from deployments.listeners import free_port
from deployments.names import PIPELINE
from model.checkpoint.synthetic import SyntheticSize, write_synthetic_checkpoint
from tests.support.server import body, small_config, wait_for, wait_for_step, wait_until_struck

STEP_TIMEOUT_S = 10.0
# A DiT wide enough for steps of about a second on two cores, as the real one's are on GPUs.
WIDE = SyntheticSize(dim=768, ffn_dim=1536, num_layers=6)
NEXT = {**CLIP, "num_inference_steps": 3}


def rank_pids() -> list[int]:
    """Processes of the gang's ranks, in rank order."""
    denoiser = serve.get_deployment_handle("denoiser", PIPELINE)
    return [place.pid for place in denoiser.places.remote().result()]


def settings(checkpoint: Path, data_dir: Path) -> ServeConfig:
    """The small service with a gang of two and a step deadline that a trial can wait for."""
    config = small_config(checkpoint, data_dir, port=free_port(), gang_size=2).model_dump()
    config["pipeline"]["denoiser"]["gang"]["step_timeout_s"] = STEP_TIMEOUT_S
    return ServeConfig.model_validate(config)


def step_s(client: httpx.Client) -> float:
    """Median seconds of a step of the long clip."""
    video_id = client.post("/v1/videos", json=body(**LONG)).json()["id"]
    first = wait_for_step(client, video_id)["step"]
    start_s = time.monotonic()
    time.sleep(15)
    last = client.get(f"/v1/videos/{video_id}").json()["step"]
    elapsed_s = time.monotonic() - start_s
    client.delete(f"/v1/videos/{video_id}")
    return elapsed_s / (last - first)


def trial(client: httpx.Client, strike: Callable[[str, list[int]], None]) -> tuple[float, float]:
    """Strikes a running clip.

    Returns:
        Seconds until it shows as struck, and until the waiting clip's first step is finished.
    """
    pids = rank_pids()  # asked now: two clips take all the calls that a gang's replica accepts
    struck = client.post("/v1/videos", json=body(**LONG)).json()["id"]
    wait_for_step(client, struck)
    waiting = client.post("/v1/videos", json=body(**NEXT)).json()["id"]
    wait_encoded(client, waiting)
    start_s = time.monotonic()
    strike(struck, pids)
    wait_until_struck(client, struck)
    noticed_s = time.monotonic() - start_s
    # It would be tried again, and might come before the clip that waits.
    client.delete(f"/v1/videos/{struck}")
    wait_for_step(client, waiting, timeout_s=120)
    resumed_s = time.monotonic() - start_s
    assert wait_for(client, waiting)["status"] == "completed", "a bystander was harmed"
    return noticed_s, resumed_s


def measure(client: httpx.Client, logs_dir: Path, trials: int, cancels: int) -> dict[str, object]:
    """All trials; of a few the median and the worst, of the cancels the 99th percentile too."""

    def killed(_: str, pids: list[int]) -> None:
        os.kill(pids[1], signal.SIGKILL)

    def stopped(_: str, pids: list[int]) -> None:
        os.kill(pids[1], signal.SIGSTOP)

    strikes = {"sigkill_rank": killed, "sigstop_rank": stopped}
    one_step_s = step_s(client)
    report: dict[str, object] = {"step_s": round(one_step_s, 3)}
    for name, start in CANCELS.items():
        print(f"{cancels} cancels by {name}", flush=True)
        chain = cancel_chain(client, start, cancels, max_pause_s=one_step_s)
        report[name] = cancel_report(chain, logs_dir, bound_s=one_step_s + 1)
    for name, strike in strikes.items():
        noticed_s, resumed_s = zip(*(trial(client, strike) for _ in range(trials)), strict=True)
        first_step = spread(resumed_s)
        report[name] = {"client_knows": spread(noticed_s), "next_clip_first_step": first_step}
    return report


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median and worst."""
    return {"median_s": round(statistics.median(seconds), 2), "worst_s": round(max(seconds), 2)}


def main() -> None:
    """Runs the benchmark and writes `docs/benchmarks/recovery.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--cancels", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint"
        write_synthetic_checkpoint(checkpoint, seed=0, size=WIDE)
        config = settings(checkpoint, Path(folder) / "data")
        with (
            start_local(config) as server,
            httpx.Client(base_url=server.url, timeout=120) as client,
        ):
            report = measure(client, server.logs_dir, options.trials, options.cancels)
    limits = {"step_timeout_s": STEP_TIMEOUT_S, "trials": options.trials, "gang_size": 2}
    write_report("recovery", {**limits, **report})


if __name__ == "__main__":
    main()
