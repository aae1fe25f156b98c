"""Clips in the order of `autoscaling.order` against first come first served, on a recorded trace.

    python -m benchmarks.order record
    python -m benchmarks.order report

`record` runs a real gateway with keys on a local Ray, with gangs that sleep instead of denoising,
and writes what came, when it started and what it took to `docs/benchmarks/order_trace.jsonl`, which
`lingbot-serve simulate --trace` reads. Time runs twenty times as fast as on GPUs. `report` replays
that trace through the simulator, with the code that the gateways claim by, and writes
`docs/benchmarks/order.json`.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import ray
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema
from sqlalchemy import select
from sqlalchemy.orm import Session

from autoscaling.config import GangScaling
from autoscaling.cost import latent_tokens
from autoscaling.order import OrderSettings
from autoscaling.simulator.controllers import FixedController
from autoscaling.simulator.engine import FleetSettings, simulate
from autoscaling.simulator.queue import punctuality
from autoscaling.simulator.trace import Asked, Floats, Trace, burst_arrivals
from benchmarks.report import FOLDER, write_report
from deployments.app import build_gateway
from deployments.config import ServeConfig
from deployments.gateway_config import GatewayConfig, Limits
from deployments.jobs.database import open_database
from deployments.jobs.tables import COMPLETED, FAILED, Job
from deployments.keys.settings import AuthMode, AuthSettings
from deployments.keys.store import KeyStore
from deployments.launch import start_ray
from deployments.listeners import free_port
from deployments.names import GATEWAY
from deployments.readiness import wait_until_ready
from deployments.serve_config import serve_config
from tests.support.server import body
from tests.support.sleeping import Naps

RECORDED = FOLDER / "order_trace.jsonl"
SPEED, NUM_GANGS, SIZE, SEED = 20.0, 3, "160x96", 7
# Frames and steps of a clip, its share of the jobs; they need 1, 2, 3.2 and 8 seconds of a gang.
MIX = ((17, 4, 0.35), (17, 8, 0.2), (61, 4, 0.25), (157, 4, 0.2))
STEP_S = 1.0 / (4 * latent_tokens(17, 96, 160))
NUM_CLIPS, TRACE_S = 120, 120.0
# One key sends every other clip. Who waits, waits for 3 or 15 minutes at full speed.
KEYS = (("batch", 0.5), ("studio", 0.25), ("one", 0.125), ("two", 0.125))
PRIORITIES = (("low", 0.15), ("normal", 0.7), ("high", 0.15))
PATIENCE_S = ((180 / SPEED, 0.33), (900 / SPEED, 0.33), (None, 0.34))
# Recorded arrivals come so many times as fast, to see more and less of a queue.
RATES = (0.8, 1.0, 1.25)
_LEARNING_S = 11.0  # predictions are at most ten seconds old


@dataclass(frozen=True, slots=True)
class Wish:
    """One clip that somebody will ask for."""

    arrival_s: float
    key: str
    priority: str
    num_frames: int
    num_steps: int
    deadline_s: float | None


@dataclass(frozen=True, slots=True)
class Record:
    """One clip as the real gateway saw it.

    Args:
        arrival_s: When it was accepted, from the first one's on.
        key: Whose it was.
        priority: Its class.
        predicted_gpu_s: Seconds on its gang of one as predicted at admission.
        gpu_s: Seconds that its gang took.
        deadline_s: Within which it should be done, from its arrival; None: whenever.
        wait_s: From its arrival to its gang's first step.
    """

    arrival_s: float
    key: str
    priority: str
    predicted_gpu_s: float
    gpu_s: float
    deadline_s: float | None
    wait_s: float


def draw_wishes() -> list[Wish]:
    """Clips of all kinds, in bursts."""
    rng = np.random.default_rng(SEED)
    arrivals = burst_arrivals(
        NUM_CLIPS, NUM_CLIPS / TRACE_S, rng, quiet_s=25.0, burst_s=8.0, peak_ratio=6.0
    )
    wishes = []
    for arrival_s in arrivals.tolist():
        frames, steps, _ = MIX[rng.choice(len(MIX), p=[share for *_, share in MIX])]
        patience_s = _draw(PATIENCE_S, rng)
        alone_s = STEP_S * steps * latent_tokens(frames, 96, 160)
        wishes.append(
            Wish(
                arrival_s,
                _draw(KEYS, rng),
                _draw(PRIORITIES, rng),
                frames,
                steps,
                None if patience_s is None else patience_s + alone_s,
            )
        )
    return wishes


def _draw(choices: Sequence[tuple[Any, float]], rng: np.random.Generator) -> Any:
    return choices[rng.choice(len(choices), p=[share for _, share in choices])][0]


def deploy(log: Path) -> tuple[str, dict[str, str]]:
    """Deploys the sleeping stages and the real gateway.

    Returns:
        The gateway's address, and the secrets of the keys by their names.
    """
    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    gangs = GangScaling(min_replicas=NUM_GANGS, max_replicas=NUM_GANGS)
    config = ServeConfig.model_validate(
        {
            "pipeline": {
                "checkpoint": log,
                "denoiser": {"gang": {"size": 1}, "scaling": gangs.model_dump()},
            }
        }
    )
    naps = Naps(step_s=STEP_S, log=str(log), clips_per_gang=1)
    pipeline = serve_config(config)["applications"][0] | {
        "import_path": "tests.support.sleeping:build_sleeping",
        "args": naps.model_dump(),
    }
    client = _get_global_client()
    assert client is not None
    client.deploy_apps(ServeDeploySchema.model_validate({"applications": [pipeline]}))
    gateway = GatewayConfig(
        data_dir=log / "data",
        preset="cpu-small",
        limits=Limits(max_queued_jobs=1000),
        auth=AuthSettings(mode=AuthMode.REQUIRED),
    )
    (log / "data").mkdir()
    keys = KeyStore(open_database(gateway.store_url()))
    secrets = {name: keys.create(name).secret.text for name, _ in KEYS}
    serve.run(build_gateway(gateway), name=GATEWAY, route_prefix="/")
    url = f"http://127.0.0.1:{port}"
    wait_until_ready(url)
    return url, secrets


async def drive(url: str, secrets: Mapping[str, str], wishes: Sequence[Wish]) -> list[str]:
    """Sends each wish at its time; returns the jobs' ids in the order of the wishes."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:

        async def send(wish: Wish, start_s: float) -> str:
            await asyncio.sleep(max(0.0, start_s + wish.arrival_s - time.time()))
            wanted = body(
                size=SIZE,
                num_frames=wish.num_frames,
                num_inference_steps=wish.num_steps,
                priority=wish.priority,
                deadline_s=wish.deadline_s,
            )
            bearer = {"authorization": f"Bearer {secrets[wish.key]}"}
            response = await client.post("/v1/videos", json=wanted, headers=bearer)
            response.raise_for_status()
            return str(response.json()["id"])

        start_s = time.time()
        return await asyncio.gather(*(send(wish, start_s) for wish in wishes))


def wait_for_jobs(log: Path, wanted: Sequence[str]) -> list[Job]:
    """The rows of some jobs, once all of them have ended."""
    engine = open_database(f"sqlite:///{log / 'data' / 'jobs.sqlite'}")
    while True:
        with Session(engine, expire_on_commit=False) as session:
            rows = {job.id: job for job in session.scalars(select(Job).where(Job.id.in_(wanted)))}
        if failed := [job for job in rows.values() if job.status == FAILED]:
            raise RuntimeError(f"{failed[0].id} failed: {failed[0].error_message}")
        if all(job.status == COMPLETED for job in rows.values()):
            engine.dispose()
            return [rows[name] for name in wanted]
        time.sleep(0.5)


def record() -> None:
    """Runs the wishes on a real local Ray and writes down what came of them."""
    wishes = draw_wishes()
    start_ray(num_cpus=8)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder)
        url, secrets = deploy(log)
        # One clip of each kind, so that times are known as they are in a running service.
        lessons = [Wish(0.0, "one", "normal", frames, steps, None) for frames, steps, _ in MIX]
        wait_for_jobs(log, asyncio.run(drive(url, secrets, lessons)))
        time.sleep(_LEARNING_S)
        jobs = wait_for_jobs(log, asyncio.run(drive(url, secrets, wishes)))
        files = log.glob("*.jsonl")
        notes = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        serve.shutdown()
        ray.shutdown()
    started_s = {note["job_id"]: note["start_s"] for note in notes if "job_id" in note}
    first_s = min(job.created_at for job in jobs)
    records = [
        Record(
            arrival_s=round(job.created_at - first_s, 3),
            key=wish.key,
            priority=job.priority,
            predicted_gpu_s=round(job.predicted_s or 0.0, 3),
            gpu_s=round(job.gang_s or 0.0, 3),
            deadline_s=None if job.due_at_s is None else round(job.due_at_s - job.created_at, 3),
            wait_s=round(started_s[job.id] - job.created_at, 3),
        )
        for wish, job in zip(wishes, jobs, strict=True)
    ]
    records.sort(key=lambda each: each.arrival_s)
    RECORDED.write_text("".join(json.dumps(asdict(each)) + "\n" for each in records))
    print(f"{RECORDED}: {len(records)} clips")


def read() -> list[Record]:
    """The recorded trace."""
    return [Record(**json.loads(line)) for line in RECORDED.read_text().splitlines()]


def as_trace(records: Sequence[Record], rate: float) -> Trace:
    """The records as the simulator takes them, coming so many times as fast."""
    arrival_s = np.array([each.arrival_s for each in records]) / rate
    within_s = [np.inf if each.deadline_s is None else each.deadline_s for each in records]
    asked = [Asked(each.key, each.priority, each.predicted_gpu_s) for each in records]
    gpu_s = np.array([each.gpu_s for each in records])
    return Trace(arrival_s, gpu_s, arrival_s + within_s, asked)


def replay(records: Sequence[Record], rate: float, settings: OrderSettings | None) -> Floats:
    """What each clip waits on as many gangs; without settings first come first served."""
    trace = as_trace(records, rate)
    fleet = FleetSettings(
        num_gpus=NUM_GANGS, gang_size=1, node_gpus=1, min_gangs=NUM_GANGS, warm_gangs=NUM_GANGS
    )
    return simulate(trace, fleet, FixedController(NUM_GANGS), order=settings).wait_s


def summary(records: Sequence[Record], wait_s: Floats, rate: float = 1.0) -> dict[str, Any]:
    """What an order is judged by; a slowdown is the time to the end over the clip's own."""
    trace = as_trace(records, rate)
    num_due, num_punctual = punctuality(trace, wait_s, 1)
    slowdown = 1 + wait_s / trace.gpu_s
    return {
        "mean_wait_s": _round(wait_s.mean()),
        "p95_wait_s": _round(np.quantile(wait_s, 0.95)),
        "longest_wait_s": _round(wait_s.max()),
        "deadlines_met": _round(num_punctual / num_due),
        "mean_slowdown": _round(slowdown.mean()),
        "by_key": _groups([each.key for each in records], trace.gpu_s, wait_s),
        "by_priority": _groups([each.priority for each in records], trace.gpu_s, wait_s),
    }


def _groups(names: Sequence[str], work_s: Floats, wait_s: Floats) -> dict[str, dict[str, float]]:
    found = {}
    for name in sorted(set(names)):
        members = np.array([each == name for each in names])
        found[name] = {
            "work_s": _round(work_s[members].sum()),
            "mean_wait_s": _round(wait_s[members].mean()),
            "longest_wait_s": _round(wait_s[members].max()),
        }
    return found


def _round(number: Any) -> float:
    return round(float(number), 3)


def report() -> None:
    """Replays the recorded trace in both orders, and writes how the real run compares."""
    records, settings = read(), OrderSettings()
    real = summary(records, np.array([each.wait_s for each in records]))
    ours = summary(records, replay(records, 1.0, settings))
    ratios = np.array([each.predicted_gpu_s / each.gpu_s for each in records])
    write_report(
        "order",
        {
            "trace": {"clips": len(records), "gangs": NUM_GANGS, "speed": SPEED},
            "settings": asdict(settings),
            "prediction_over_measured": {
                "median": _round(np.median(ratios)),
                "p5": _round(np.quantile(ratios, 0.05)),
                "p95": _round(np.quantile(ratios, 0.95)),
            },
            "by_rate_of_arrivals": {
                str(rate): {
                    "first_come_first_served": summary(records, replay(records, rate, None), rate),
                    "cost_aware": summary(records, replay(records, rate, settings), rate),
                }
                for rate in RATES
            },
            "real_run_cost_aware": real,
            "simulated_over_real": {
                name: _round(ours[name] / real[name])
                for name in ("mean_wait_s", "longest_wait_s", "deadlines_met")
            },
        },
    )


def main() -> None:
    """Runs one part of the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=["record", "report"])
    (record if parser.parse_args().part == "record" else report)()


if __name__ == "__main__":
    main()
