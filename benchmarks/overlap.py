"""Do requests overlap? The real gateway and pipeline over stages that sleep for known times.

    python -m benchmarks.overlap

Sleeping stages leave the cores free, so what is measured is the scheduling and nothing else.
Efficiency is throughput times the slowest stage's service time: 1 means that it never waits.
"""

import argparse
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import ray
from ray import serve

from benchmarks.report import write_report
from deployments.app import build_gateway
from deployments.gateway_config import GatewayConfig, Limits
from deployments.launch import start_ray
from deployments.listeners import free_port
from deployments.names import GATEWAY, PIPELINE
from deployments.readiness import wait_until_ready
from tests.support.server import body
from tests.support.sleeping import Naps, build_sleeping

NAPS = Naps(
    text_encoder_s=0.020,
    image_encoder_s=0.010,
    vae_encoder_s=0.020,
    clip_s=0.400,
    vae_decoder_s=0.060,
)
SERVICE_S = {
    "text_encoder": NAPS.text_encoder_s,
    "image_encoder": NAPS.image_encoder_s,
    "vae_encoder": NAPS.vae_encoder_s,
    "denoiser": NAPS.clip_s,
    "vae_decoder": NAPS.vae_decoder_s,
}
NUM_CLIENTS = 8


def measure(url: str, num_requests: int) -> float:
    """Seconds that some requests take, a few clients asking one after the other."""
    with httpx.Client(base_url=url, timeout=120) as client:

        def ask(seed: int) -> None:
            client.post(
                "/v1/videos/sync", json=body(seed=seed, num_inference_steps=8)
            ).raise_for_status()

        with ThreadPoolExecutor(NUM_CLIENTS) as clients:
            list(clients.map(ask, range(NUM_CLIENTS)))  # warm
            start_s = time.perf_counter()
            list(clients.map(ask, range(num_requests)))
            return time.perf_counter() - start_s


def main() -> None:
    """Runs the benchmark and writes `docs/benchmarks/overlap.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=30)
    num_requests = parser.parse_args().requests
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    start_ray(num_cpus=2)
    with tempfile.TemporaryDirectory() as data_dir:
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        # The model attends 512 tokens; here a token is a letter.
        gateway = GatewayConfig(
            data_dir=Path(data_dir), preset="cpu-small", limits=Limits(max_queued_jobs=1000)
        )
        serve.run(build_gateway(gateway), name=GATEWAY, route_prefix="/")
        serve.run(build_sleeping(NAPS), name=PIPELINE, route_prefix=None)
        wait_until_ready(url)
        elapsed_s = measure(url, num_requests)
        serve.shutdown()
        ray.shutdown()
    slowest_s = max(SERVICE_S.values())
    write_report(
        "overlap",
        {
            "service_ms": {name: seconds * 1e3 for name, seconds in SERVICE_S.items()},
            "num_requests": num_requests,
            "num_clients": NUM_CLIENTS,
            "elapsed_s": round(elapsed_s, 3),
            "bound_s": round(num_requests * slowest_s, 3),
            "one_after_the_other_s": round(num_requests * _serial_s(), 3),
            "efficiency": round(num_requests * slowest_s / elapsed_s, 3),
        },
    )


def _serial_s() -> float:
    """Service time of one request whose stages do not overlap with other requests'."""
    encoders_s = max(SERVICE_S[name] for name in ("text_encoder", "image_encoder", "vae_encoder"))
    return encoders_s + SERVICE_S["denoiser"] + SERVICE_S["vae_decoder"]


if __name__ == "__main__":
    main()
