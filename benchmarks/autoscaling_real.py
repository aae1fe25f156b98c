"""One trace, on a real local Ray and in the simulator, under our policy and under Serve's default.

    python -m benchmarks.autoscaling_real work
    python -m benchmarks.autoscaling_real requests
    python -m benchmarks.autoscaling_real report

Time runs ten times as fast as on GPUs: gangs sleep instead of denoising, and cold starts, delays
and report intervals are a tenth of what ships. Gateway, pipeline, policy and Serve are the real
ones. `work` also writes what its gateway recorded to `docs/benchmarks/autoscaling_trace.jsonl`.
`requests` runs Serve's default until a run takes as many gang-seconds as `work` took. `report`
simulates both with the cold start that they measured and writes
`docs/benchmarks/autoscaling_real.json`.

Our gateway orders the clips that wait (`autoscaling.order`). Serve's default sees only what is
handed over, so it has to get all clips at once, and its gangs take them first come first served.
"""

import argparse
import asyncio
import json
import tempfile
import threading
import time
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import ray
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from benchmarks.autoscaling_real_trace import (
    DELAYS,
    DRAWN,
    HEIGHT,
    LOOK_BACK_S,
    MIX,
    NUM_GANGS,
    ORDERS,
    SIZE,
    SPEED,
    STEP_S,
    STEPS,
    TRACE_S,
    WIDTH,
    WORK,
    Clip,
    drawn,
    equal_target,
    make_trace,
    run_simulated,
    short,
    simulated,
    summary,
)
from benchmarks.report import FOLDER as REPORTS
from benchmarks.report import write_report
from deployments.app import build_gateway
from deployments.config import ServeConfig
from deployments.gateway_config import GatewayConfig, Limits
from deployments.jobs.database import open_database
from deployments.launch import start_ray
from deployments.listeners import free_port
from deployments.names import GATEWAY, PIPELINE
from deployments.readiness import wait_until_ready
from deployments.serve_config import serve_config
from lingbot_serve.jobs.trace import read_jobs
from tests.support.server import body
from tests.support.sleeping import Naps

LOAD_S = 6.0  # what a gang sleeps before it is ready, beside the start of its process
EQUAL, MOST_RUNS = 0.02, 3  # how near the default's gang-seconds shall be, within so many runs
FOLDER = Path("out/autoscaling_real")


def deploy(policy: str, target_requests: float, log: Path) -> str:
    """Deploys the sleeping stages and the real gateway; returns the gateway's address."""
    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    config = ServeConfig.model_validate(
        {
            "pipeline": {
                "checkpoint": log,
                "denoiser": {"gang": {"size": 1}, "scaling": WORK.model_dump()},
            }
        }
    )
    application = serve_config(config)["applications"][0]
    naps = Naps(step_s=STEP_S, load_s=LOAD_S, log=str(log), clips_per_gang=1)
    application |= {
        "import_path": "tests.support.sleeping:build_sleeping",
        "args": naps.model_dump(),
    }
    if policy == "requests":
        del application["autoscaling_policy"]
        bounds = {
            "min_replicas": WORK.min_replicas,
            "max_replicas": WORK.max_replicas,
            "target_ongoing_requests": target_requests,
            "upscale_delay_s": DELAYS.upscale_s,
            "downscale_delay_s": DELAYS.downscale_s,
            "metrics_interval_s": WORK.report_interval_s,
            "look_back_period_s": LOOK_BACK_S,
        }
        application["deployments"] = [{"name": "denoiser", "autoscaling_config": bounds}]
    client = _get_global_client()
    assert client is not None
    client.deploy_apps(ServeDeploySchema.model_validate({"applications": [application]}))
    gateway = GatewayConfig(
        data_dir=log / "data",
        preset="cpu-small",
        limits=Limits(max_queued_jobs=10_000),
        # Serve's default sees only what is handed over, so it gets all.
        max_concurrent_jobs=None if policy == "work" else 10_000,
        report_interval_s=WORK.report_interval_s / 2,
    )
    serve.run(build_gateway(gateway), name=GATEWAY, route_prefix="/")
    url = f"http://127.0.0.1:{port}"
    wait_until_ready(url)
    return url


class Watch(threading.Thread):
    """Counts gangs by state, over and over."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.samples: list[tuple[float, dict[str, int]]] = []
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.2):
            stages = serve.status().applications[PIPELINE].deployments
            states = {str(s): n for s, n in stages["denoiser"].replica_states.items()}
            self.samples.append((time.time(), states))

    def stop(self) -> None:
        self._over.set()
        self.join()

    def gang_s(self, states: tuple[str, ...], since_s: float, until_s: float) -> float:
        """Gangs in these states, integrated over a time."""
        total_s = 0.0
        for (start_s, counts), (end_s, _) in pairwise(self.samples):
            seconds = max(0.0, min(end_s, until_s) - max(start_s, since_s))
            total_s += seconds * sum(counts.get(state, 0) for state in states)
        return total_s


async def drive(url: str, clips: list[Clip]) -> dict[str, int]:
    """Sends each clip at its time; returns which of the trace's clips each job is."""
    jobs: dict[str, int] = {}
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:

        async def send(index: int, clip: Clip, start_s: float) -> None:
            await asyncio.sleep(max(0.0, start_s + clip.arrival_s - time.time()))
            fields = {"num_frames": clip.num_frames, "deadline_s": clip.deadline_s}
            wanted = body(size=SIZE, num_inference_steps=STEPS, **fields)
            response = await client.post("/v1/videos", json=wanted)
            response.raise_for_status()
            jobs[response.json()["id"]] = index

        start_s = time.time()
        await asyncio.gather(*(send(i, clip, start_s) for i, clip in enumerate(clips)))
    return jobs


def notes(log: Path) -> list[dict[str, Any]]:
    """What all gangs have noted so far."""
    files = log.glob("*.jsonl")
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def wait_for_clips(log: Path, jobs: set[str]) -> dict[str, dict[str, Any]]:
    """Returns what the gangs noted of each job, once all are done."""
    while True:
        done = {note["job_id"]: note for note in notes(log) if note.get("job_id") in jobs}
        if len(done) == len(jobs):
            return done
        time.sleep(0.3)


def wait_for_no_gangs() -> None:
    """Both policies begin with none, as the simulator does; by then step times are learned, too."""
    stages = serve.status().applications[PIPELINE].deployments
    while sum(stages["denoiser"].replica_states.values()):
        time.sleep(0.5)
        stages = serve.status().applications[PIPELINE].deployments


def measure(policy: str, target: float) -> dict[str, Any]:
    """Runs the trace on a real local Ray."""
    trace, clips = make_trace()
    start_ray(num_cpus=8)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder)
        url = deploy(policy, target, log)
        # One clip of each size, so that the step times are known as they are in a running service.
        warm = [Clip(0.0, frames, None) for frames, _ in MIX]
        wait_for_clips(log, set(asyncio.run(drive(url, warm))))
        wait_for_no_gangs()
        watch = Watch()
        watch.start()
        start_s = time.time()
        jobs = asyncio.run(drive(url, clips))
        done = wait_for_clips(log, set(jobs))
        end_s = max(note["end_s"] for note in done.values())
        watch.stop()
        if policy == "work":
            export_trace(log, num_clips=len(clips))
        serve.shutdown()
        ray.shutdown()
    starts_s = np.empty(len(clips))
    for job_id, index in jobs.items():
        starts_s[index] = done[job_id]["start_s"] - start_s
    return summary(trace, starts_s - trace.arrival_s, end_s - start_s) | {
        "target_ongoing_requests": None if policy == "work" else target,
        "gpu_s": watch.gang_s(("STARTING", "RUNNING", "STOPPING"), start_s, end_s),
        "gangs_started": _rises(watch),
        "cold_start_s": watch.gang_s(("STARTING",), 0.0, np.inf) / max(1, _rises(watch)),
        "peak_gangs": max(sum(counts.values()) for _, counts in watch.samples),
    }


def export_trace(log: Path, *, num_clips: int) -> None:
    """Writes what the gateway recorded of the trace's clips, as `lingbot-serve jobs trace` does."""
    engine = open_database(f"sqlite:///{log / 'data' / 'jobs.sqlite'}")
    while len(recorded := list(read_jobs(engine, gang_size=1))) < num_clips + len(MIX):
        time.sleep(0.5)  # for the last clip's row
    engine.dispose()
    clips = recorded[len(MIX) :]
    if any((clip.width, clip.height) != (WIDTH, HEIGHT) for clip in clips):
        raise RuntimeError(f"the gateway made clips of another size than {WIDTH}x{HEIGHT}")
    first_s = clips[0].arrival_s
    shifted = [replace(clip, arrival_s=round(clip.arrival_s - first_s, 3)) for clip in clips]
    lines = "".join(json.dumps(asdict(clip)) + "\n" for clip in shifted)
    (REPORTS / "autoscaling_trace.jsonl").write_text(lines)


def measure_equal() -> list[dict[str, Any]]:
    """Serve's default with one target after the other, until it takes as much as our run.

    The simulator says which target takes how much, corrected by how it erred about the last run.
    """
    ours = json.loads((FOLDER / "work.json").read_text())
    wanted_s, cold_start_s = ours["gpu_s"], ours["cold_start_s"]
    runs: list[dict[str, Any]] = []
    erred = 1.0
    while len(runs) < MOST_RUNS:
        # A little more than ours: the default is not made to wait for want of gang-seconds.
        target = equal_target((1 + EQUAL / 2) * wanted_s / erred, cold_start_s)
        runs.append(measure("requests", target))
        if 0 <= runs[-1]["gpu_s"] / wanted_s - 1 <= EQUAL:
            break
        erred = runs[-1]["gpu_s"] / run_simulated("requests", target, cold_start_s).held_gpu_s
    return runs


def _rises(watch: Watch) -> int:
    starting = [counts.get("STARTING", 0) for _, counts in watch.samples]
    return sum(max(0, after - before) for before, after in pairwise(starting))


def compare() -> None:
    """Writes what was measured beside what is simulated."""
    ours, all_default = (json.loads((FOLDER / f"{name}.json").read_text()) for name in ORDERS)
    nearest = min(all_default, key=lambda run: abs(run["gpu_s"] - ours["gpu_s"]))
    policies = {}
    for policy, real in {"work": ours, "requests": nearest}.items():
        model = simulated(policy, real["target_ongoing_requests"], real["cold_start_s"])
        policies[policy] = {
            "real": real,
            "simulated": model,
            "simulated_over_real": {
                "throughput": model["clips_per_s"] / real["clips_per_s"],
                "mean_wait": model["wait"]["mean_s"] / real["wait"]["mean_s"],
                "gpu_s": model["gpu_s"] / real["gpu_s"],
            },
        }
    trace, _ = make_trace()
    settings = {"speed": SPEED, "num_clips": len(trace), "trace_s": TRACE_S, "gangs": NUM_GANGS}
    policy = {"work_policy": WORK.model_dump(), "serve_delays": asdict(DELAYS)}
    others = {
        "default_gang_s_over_work": nearest["gpu_s"] / ours["gpu_s"],
        "all_default_runs": [short(run) for run in all_default],
        "simulated_drawn_traces": [drawn(seed, ours["cold_start_s"]) for seed in range(DRAWN)],
    }
    write_report("autoscaling_real", {**settings, **policy, **others, "policies": policies})


def main() -> None:
    """Runs one part of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["work", "requests", "report"])
    part = parser.parse_args().part
    if part == "report":
        compare()
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    result = measure(part, 0.0) if part == "work" else measure_equal()
    text = json.dumps(result, indent=2)
    (FOLDER / f"{part}.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
