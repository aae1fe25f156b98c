"""What does serving cost? The same small models, called in this process and through Serve.

    python -m benchmarks.overhead

One request at a time, the two ways in turn, so that both see the same machine. Each request has
a prompt of its own; the negative prompt is encoded once either way.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import numpy as np
import torch
from ray import serve

from benchmarks.report import median_and_p95_ms, write_report
from deployments.config import ServeConfig
from deployments.ids import JobIds
from deployments.images.decode import decode_image
from deployments.images.decoder import as_array
from deployments.launch import start_local
from deployments.listeners import free_port
from deployments.messages import GenerateRequest
from deployments.names import PIPELINE
from deployments.video import Mp4Writer
from model.checkpoint.layout import CheckpointPaths, locate_checkpoint
from model.checkpoint.synthetic import TINY, write_synthetic_checkpoint
from model.denoiser import Denoiser
from model.image_encoder import ImageEncoder
from model.text_encoder import TextEncoder
from model.types import DenoiseRequest, Latents, SamplerSettings, VideoShape
from model.vae_decoder import VAEDecoder
from model.vae_encoder import VAEEncoder
from tests.support.server import body, picture, small_config

NEGATIVE_PROMPT = "blurry"
NUM_WARM = 5


@dataclass(frozen=True)
class Times:
    """Durations in seconds, one per request."""

    in_process: list[float]
    pipeline: list[float]
    http: list[float]

    def overhead_ms(self, through: list[float]) -> dict[str, float]:
        pairs = zip(through, self.in_process, strict=True)
        return median_and_p95_ms([slow - fast for slow, fast in pairs])


class InProcess:
    """All stages in this process, one thread, one after the other."""

    def __init__(self, checkpoint: CheckpointPaths) -> None:
        place = {"device": torch.device("cpu"), "dtype": torch.float32}
        self._text_encoder = TextEncoder.load(checkpoint, **place)
        self._image_encoder = ImageEncoder.load(checkpoint, **place)
        self._vae_encoder = VAEEncoder.load(checkpoint, **place)
        self._denoiser = Denoiser.load(checkpoint, **place)
        self._vae_decoder = VAEDecoder.load(checkpoint, **place)
        self._negative_prompt = self._text_encoder.encode(NEGATIVE_PROMPT)

    def run(self, request: GenerateRequest) -> bytes:
        """Makes one clip."""
        denoise_request = DenoiseRequest(
            prompt=self._text_encoder.encode(request.prompt),
            negative_prompt=self._negative_prompt,
            first_frame=self._vae_encoder.encode(request.image, request.shape),
            image=self._image_encoder.encode(request.image),
            camera=None,
            shape=request.shape,
            sampler=request.sampler,
            seed=request.seed,
        )
        *_, latents = self._denoiser.denoise(denoise_request)
        assert isinstance(latents, Latents)
        writer = Mp4Writer(height=request.shape.height, width=request.shape.width, num_threads=1)
        for frames in self._vae_decoder.decode(latents):
            writer.write(frames.pixels)
        return writer.finish()


def measure(config: ServeConfig, url: str, num_requests: int) -> Times:
    """Times each way in turn."""
    in_process = InProcess(locate_checkpoint(config.pipeline.checkpoint))
    handle = serve.get_app_handle(PIPELINE).options(stream=True)
    defaults = config.gateway.generation
    image = picture()
    times = Times([], [], [])

    def request(prompt: str) -> GenerateRequest:
        return GenerateRequest(
            ids=JobIds(prompt),
            prompt=prompt,
            negative_prompt=NEGATIVE_PROMPT,
            image=as_array(decode_image(image, max_pixels=10**6)),
            camera=None,
            shape=VideoShape(num_frames=defaults.num_frames, height=64, width=96),
            sampler=SamplerSettings(num_inference_steps=defaults.num_inference_steps),
            seed=7,
        )

    with httpx.Client(base_url=url, timeout=120) as client:

        def over_http(prompt: str) -> None:
            wanted = body(prompt=prompt, negative_prompt=NEGATIVE_PROMPT, seed=7)
            client.post("/v1/videos/sync", json=wanted).raise_for_status()

        def through_pipeline(prompt: str) -> None:
            list(handle.generate.remote(request(prompt)))

        for number in range(NUM_WARM + num_requests):
            taken_s = [
                _time(lambda: in_process.run(request("in process"))),
                _time(lambda n=number: through_pipeline(f"request {n} through the pipeline")),
                _time(lambda n=number: over_http(f"request {n} over HTTP")),
            ]
            if number >= NUM_WARM:
                for kept, seconds in zip(asdict(times), taken_s, strict=True):
                    getattr(times, kept).append(seconds)
    return times


def _time(call: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    call()
    return time.perf_counter() - start_s


def main() -> None:
    """Runs the benchmark and writes `docs/benchmarks/overhead.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=50)
    num_requests = parser.parse_args().requests
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint"
        write_synthetic_checkpoint(checkpoint, seed=0, size=TINY)
        config = small_config(checkpoint, Path(folder), port=free_port(), gang_size=1)
        with start_local(config) as server:
            times = measure(config, server.url, num_requests)
    defaults = config.gateway.generation
    latent_bytes = 4 * 16 * int(np.prod((3, 8, 12)))
    write_report(
        "overhead",
        {
            "clip": f"{defaults.num_frames} frames of 96x64, {defaults.num_inference_steps} steps",
            "num_requests": num_requests,
            "latent_bytes": latent_bytes,
            "in_process": median_and_p95_ms(times.in_process),
            "through_pipeline": median_and_p95_ms(times.pipeline),
            "over_http": median_and_p95_ms(times.http),
            "pipeline_overhead": times.overhead_ms(times.pipeline),
            "http_overhead": times.overhead_ms(times.http),
        },
    )


if __name__ == "__main__":
    main()
