"""One trace, on a real local Ray and in the simulator, under our policy and under Serve's default.

    python -m benchmarks.autoscaling_real work
    python -m benchmarks.autoscaling_real requests
    python -m benchmarks.autoscaling_real report

Time runs twenty times as fast as on GPUs: gangs sleep instead of denoising, and cold starts, delays
and report intervals are a twentieth of what ships. Gateway, pipeline, policy and Serve are the real
ones. `report` simulates both runs with the cold start that they measured and writes
`docs/benchmarks/autoscaling_real.json`.
"""

import argparse
import asyncio
import json
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import ray
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from autoscaling.config import GangScaling
from autoscaling.cost import latent_tokens
from autoscaling.simulator.controllers import (
    Controller,
    Delays,
    RequestsController,
    WorkController,
)
from autoscaling.simulator.engine import FleetSettings, simulate
from autoscaling.simulator.queue import punctuality
from autoscaling.simulator.report import Report, Waits, summarise
from autoscaling.simulator.trace import Trace, burst_arrivals, draw_deadlines
from benchmarks.report import write_report
from deployments.app import build_gateway
from deployments.config import ServeConfig
from deployments.gateway_config import GatewayConfig, Limits
from deployments.launch import start_ray, wait_until_ready
from deployments.names import GATEWAY, PIPELINE
from deployments.serve_config import serve_config
from tests.support.server import body, free_port
from tests.support.sleeping import Naps

SPEED = 20.0
SIZE, STEPS = "160x96", 4
# Frames of a clip, its share of the jobs; a step of a token takes so long that they need
# 1, 3.2 and 8 seconds.
MIX = ((17, 0.5), (61, 0.3), (157, 0.2))
STEP_S = 1.0 / (STEPS * latent_tokens(17, 96, 160))
NUM_GANGS, LOAD, TRACE_S, SEED = 6, 0.3, 150.0, 4
DEADLINES = ((180 / SPEED, 0.33), (900 / SPEED, 0.33), (np.inf, 0.34))
LOAD_S = 3.0  # what a gang sleeps before it is ready, beside the start of its process
WORK = GangScaling(
    min_replicas=0,
    max_replicas=NUM_GANGS,
    drain_target_s=60 / SPEED,
    cold_start_s=120 / SPEED,
    idle_to_zero_s=900 / SPEED,
    interval_s=10 / SPEED,
    report_interval_s=10 / SPEED,
)
DELAYS = Delays(upscale_s=30 / SPEED, downscale_s=600 / SPEED)
LOOK_BACK_S = 30 / SPEED
FOLDER = Path("out/autoscaling_real")


@dataclass(frozen=True, slots=True)
class Clip:
    """One job of the trace."""

    arrival_s: float
    num_frames: int
    deadline_s: float | None


def make_trace() -> tuple[Trace, list[Clip]]:
    """The same trace for the simulator and for the real run."""
    rng = np.random.default_rng(SEED)
    frames, shares = np.array(MIX).T
    num_jobs = int(LOAD * NUM_GANGS * TRACE_S / float(clip_s(frames) @ shares))
    chosen = rng.choice(frames, size=num_jobs, p=shares)
    gpu_s = clip_s(chosen)
    arrival_s = burst_arrivals(
        num_jobs, num_jobs / TRACE_S, rng, quiet_s=25.0, burst_s=8.0, peak_ratio=8.0
    )
    due_s = draw_deadlines(arrival_s, gpu_s, 1, rng, mix=DEADLINES)
    clips = [
        Clip(arrived, int(frames), due - arrived if np.isfinite(due) else None)
        for arrived, frames, due in zip(arrival_s.tolist(), chosen, due_s.tolist(), strict=True)
    ]
    return Trace(arrival_s, gpu_s, due_s), clips


def clip_s(num_frames: Any) -> Any:
    """Seconds that a gang sleeps for clips of so many frames."""
    return STEP_S * STEPS * ((num_frames - 1) // 4 + 1) * 60


def fleet(cold_start_s: float) -> FleetSettings:
    """The real run's machines, as the simulator takes them."""
    return FleetSettings(
        num_gpus=NUM_GANGS,
        gang_size=1,
        cold_start_s=cold_start_s,
        tick_s=WORK.report_interval_s,
        look_back_s=LOOK_BACK_S,
        node_gpus=1,
    )


def controller(policy: str, target_requests: float) -> Controller:
    """A new controller of the simulator."""
    if policy == "work":
        return WorkController(WORK.settings(1))
    return RequestsController(target_requests, DELAYS)


def equal_target(trace: Trace, cold_start_s: float) -> float:
    """The default's target with which it takes as many GPU-hours as our policy, as simulated."""

    def held_s(policy: str, target: float) -> float:
        return simulate(trace, fleet(cold_start_s), controller(policy, target)).held_gpu_s

    wanted_s = held_s("work", 0.0)
    targets = np.geomspace(0.3, 6.0, 60).tolist()
    return min(targets, key=lambda target: abs(held_s("requests", target) - wanted_s))


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


def measure(policy: str) -> dict[str, Any]:
    """Runs the trace on a real local Ray."""
    trace, clips = make_trace()
    target = equal_target(trace, WORK.cold_start_s)
    start_ray(num_cpus=8)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder)
        url = deploy(policy, target, log)
        # One clip of each size, so that the step times are known as they are in a running service.
        warm = [Clip(0.0, frames, None) for frames, _ in MIX]
        wait_for_clips(log, set(asyncio.run(drive(url, warm))))
        watch = Watch()
        watch.start()
        start_s = time.time()
        jobs = asyncio.run(drive(url, clips))
        done = wait_for_clips(log, set(jobs))
        end_s = max(note["end_s"] for note in done.values())
        watch.stop()
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


def _rises(watch: Watch) -> int:
    starting = [counts.get("STARTING", 0) for _, counts in watch.samples]
    return sum(max(0, after - before) for before, after in pairwise(starting))


def summary(trace: Trace, wait_s: Any, elapsed_s: float) -> dict[str, Any]:
    """What both a real and a simulated run are judged by."""
    num_due, num_punctual = punctuality(trace, wait_s, 1)
    return {
        "clips_per_s": len(trace) / elapsed_s,
        "wait": asdict(Waits.of(np.maximum(wait_s, 0.0))),
        "deadline_hits": num_punctual / num_due,
    }


def simulated(policy: str, target: float | None, cold_start_s: float) -> dict[str, Any]:
    """The same run in the simulator."""
    trace, _ = make_trace()
    outcome = simulate(trace, fleet(cold_start_s), controller(policy, target or 0.0))
    report: Report = summarise(outcome, 1.0)
    return summary(trace, outcome.wait_s, outcome.end_s) | {
        "gpu_s": outcome.held_gpu_s,
        "peak_gangs": report.peak_gangs,
    }


def compare() -> None:
    """Writes what was measured beside what is simulated."""
    policies = {}
    for policy in ("work", "requests"):
        real = json.loads((FOLDER / f"{policy}.json").read_text())
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
    write_report("autoscaling_real", {**settings, **policy, "policies": policies})


def main() -> None:
    """Runs one part of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["work", "requests", "report"])
    part = parser.parse_args().part
    if part == "report":
        compare()
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    result = measure(part)
    text = json.dumps(result, indent=2)
    (FOLDER / f"{part}.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
