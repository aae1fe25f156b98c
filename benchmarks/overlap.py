"""Do requests overlap? The real gateway and pipeline over stages that sleep for known times.

    python -m benchmarks.overlap

Sleeping stages leave the cores free, so what is measured is the scheduling and nothing else.
Efficiency is throughput times the slowest stage's service time: 1 means that it never waits.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import ray
from ray import serve

from benchmarks.report import write_report
from cluster.logs import LogConfig
from deployments.app import build_gateway
from deployments.config import GatewayConfig, Limits
from deployments.launch import start_ray, wait_until_ready
from deployments.messages import ClipSettings, DecodedVideo
from deployments.names import GATEWAY, PIPELINE
from deployments.pipeline import Pipeline
from model.types import (
    FirstFrame,
    ImageEmbeds,
    Latents,
    Step,
    TextEmbeds,
    UInt8Array,
    VideoShape,
)
from tests.support.server import body, free_port

SERVICE_S = {
    "text_encoder": 0.020,
    "image_encoder": 0.010,
    "vae_encoder": 0.020,
    "denoiser": 0.400,
    "vae_decoder": 0.060,
}
NUM_STEPS = 8
NUM_CLIENTS = 8


class OneAtATime:
    """A server with a known service time: who comes while it works, waits."""

    def __init__(self) -> None:
        self._free = asyncio.Lock()

    async def serve(self, seconds: float) -> None:
        async with self._free:
            await asyncio.sleep(seconds)


class SleepingTextEncoder:
    def __init__(self) -> None:
        self._server = OneAtATime()

    async def encode(self, prompt: str) -> TextEmbeds:
        # Two prompts make one request's service time.
        await self._server.serve(SERVICE_S["text_encoder"] / 2)
        return TextEmbeds(np.zeros((512, 64), np.float32))

    async def num_tokens(self, prompt: str) -> int:
        return len(prompt)


class SleepingImageEncoder:
    def __init__(self) -> None:
        self._server = OneAtATime()

    async def encode(self, image: UInt8Array) -> ImageEmbeds:
        await self._server.serve(SERVICE_S["image_encoder"])
        return ImageEmbeds(np.zeros((257, 1280), np.float32))


class SleepingVAEEncoder:
    def __init__(self) -> None:
        self._server = OneAtATime()

    async def encode(self, image: UInt8Array, shape: VideoShape) -> FirstFrame:
        await self._server.serve(SERVICE_S["vae_encoder"])
        return FirstFrame(_latent(shape))


class SleepingDenoiser:
    def __init__(self) -> None:
        self._gang = asyncio.Lock()

    async def denoise(
        self,
        settings: ClipSettings,
        prompt: TextEmbeds,
        negative_prompt: TextEmbeds,
        first_frame: FirstFrame,
        image: ImageEmbeds | None,
    ) -> AsyncGenerator[Step | Latents, None]:
        async with self._gang:
            for index in range(NUM_STEPS):
                await asyncio.sleep(SERVICE_S["denoiser"] / NUM_STEPS)
                yield Step(index + 1, NUM_STEPS)
        yield Latents(_latent(settings.shape))


class SleepingVAEDecoder:
    def __init__(self) -> None:
        self._server = OneAtATime()

    async def decode(
        self, latents: Latents, keep_frames: bool
    ) -> AsyncGenerator[Step | DecodedVideo, None]:
        await self._server.serve(SERVICE_S["vae_decoder"])
        yield DecodedVideo(b"no video", None)


def _latent(shape: VideoShape) -> np.ndarray:
    size = (16, shape.latent_frames, shape.latent_height, shape.latent_width)
    return np.zeros(size, np.float32)


def sleeping_pipeline() -> serve.Application:
    """The real pipeline over sleeping stages, with the limits of the real ones."""
    light = {"ray_actor_options": {"num_cpus": 0.1}, "max_ongoing_requests": 100}
    stages = {
        "text_encoder": SleepingTextEncoder,
        "image_encoder": SleepingImageEncoder,
        "vae_encoder": SleepingVAEEncoder,
        "vae_decoder": SleepingVAEDecoder,
    }
    bound = {
        name: serve.deployment(kind, name=name, **light).bind() for name, kind in stages.items()
    }
    gang = {**light, "max_ongoing_requests": 2}
    denoiser = serve.deployment(SleepingDenoiser, name="denoiser", **gang).bind()
    return serve.deployment(Pipeline, name=PIPELINE, **light).bind(
        bound["text_encoder"],
        bound["image_encoder"],
        bound["vae_encoder"],
        denoiser,
        bound["vae_decoder"],
        LogConfig(level="warning"),
    )


def measure(url: str, num_requests: int) -> float:
    """Seconds that some requests take, a few clients asking one after the other."""
    with httpx.Client(base_url=url, timeout=120) as client:

        def ask(seed: int) -> None:
            client.post("/v1/videos/sync", json=body(seed=seed)).raise_for_status()

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
        serve.run(sleeping_pipeline(), name=PIPELINE, route_prefix=None)
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
