"""Stages that sleep for known times under the real pipeline: what is left to see is scheduling.

Nothing here imports torch, so that a replica starts as fast as Ray can.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve import Application

from cluster.logs import LogConfig
from deployments.messages import ClipSettings, DecodedVideo
from deployments.names import PIPELINE
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


class Naps(BaseModel):
    """How long the stages take.

    Args:
        text_encoder_s: For both prompts of a clip.
        image_encoder_s: For a clip.
        vae_encoder_s: For a clip.
        vae_decoder_s: For a clip.
        load_s: For a gang before it takes clips.
        step_s: For a solver step of a clip of one token; None: `clip_s` for every clip.
        clip_s: For a whole clip of any size.
        log: Folder in which each gang notes what it did; None: nowhere.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    text_encoder_s: float = 0.0
    image_encoder_s: float = 0.0
    vae_encoder_s: float = 0.0
    vae_decoder_s: float = 0.0
    load_s: float = 0.0
    step_s: float | None = None
    clip_s: float = 0.4
    log: str | None = None
    clips_per_gang: int = 2
    max_backoff_s: float = 0.1


class OneAtATime:
    """A server with a known service time: who comes while it works, waits."""

    def __init__(self) -> None:
        self._free = asyncio.Lock()

    async def serve(self, seconds: float) -> None:
        async with self._free:
            await asyncio.sleep(seconds)


class SleepingTextEncoder:
    def __init__(self, naps: Naps) -> None:
        self._server, self._naps = OneAtATime(), naps

    async def encode(self, prompt: str) -> TextEmbeds:
        # Two prompts make one request's service time.
        await self._server.serve(self._naps.text_encoder_s / 2)
        return TextEmbeds(np.zeros((512, 64), np.float32))

    async def num_tokens(self, prompt: str) -> int:
        return len(prompt)


class SleepingImageEncoder:
    def __init__(self, naps: Naps) -> None:
        self._server, self._naps = OneAtATime(), naps

    async def encode(self, image: UInt8Array) -> ImageEmbeds:
        await self._server.serve(self._naps.image_encoder_s)
        return ImageEmbeds(np.zeros((257, 1280), np.float32))


class SleepingVAEEncoder:
    def __init__(self, naps: Naps) -> None:
        self._server, self._naps = OneAtATime(), naps

    async def encode(self, image: UInt8Array, shape: VideoShape) -> FirstFrame:
        await self._server.serve(self._naps.vae_encoder_s)
        return FirstFrame(_latent(shape))


class SleepingDenoiser:
    def __init__(self, naps: Naps) -> None:
        self._gang, self._naps = asyncio.Lock(), naps
        self._asked_s = time.time()
        time.sleep(naps.load_s)
        self._note({"ready_s": time.time(), "constructed_s": self._asked_s})

    async def denoise(
        self,
        settings: ClipSettings,
        prompt: TextEmbeds,
        negative_prompt: TextEmbeds,
        first_frame: FirstFrame,
        image: ImageEmbeds | None,
    ) -> AsyncGenerator[Step | Latents, None]:
        total = settings.sampler.num_inference_steps
        async with self._gang:
            start_s = time.time()
            for index in range(total):
                # Towards a moment, so that what a step costs beside its sleep does not add up.
                end_s = start_s + (index + 1) * self._step_s(settings)
                await asyncio.sleep(max(0.0, end_s - time.time()))
                yield Step(index + 1, total)
            self._note({"job_id": settings.ids.job_id, "start_s": start_s, "end_s": time.time()})
        yield Latents(_latent(settings.shape))

    def _step_s(self, settings: ClipSettings) -> float:
        shape, steps = settings.shape, settings.sampler.num_inference_steps
        if self._naps.step_s is None:
            return self._naps.clip_s / steps
        tokens = shape.latent_frames * (shape.height // 16) * (shape.width // 16)
        return self._naps.step_s * tokens

    def _note(self, event: dict[str, Any]) -> None:
        if self._naps.log is not None:
            with Path(self._naps.log, f"{os.getpid()}.jsonl").open("a") as file:
                file.write(json.dumps(event) + "\n")


class SleepingVAEDecoder:
    def __init__(self, naps: Naps) -> None:
        self._server, self._naps = OneAtATime(), naps

    async def decode(
        self, latents: Latents, keep_frames: bool
    ) -> AsyncGenerator[Step | DecodedVideo, None]:
        await self._server.serve(self._naps.vae_decoder_s)
        yield DecodedVideo(b"no video", None)


def _latent(shape: VideoShape) -> np.ndarray:
    size = (16, shape.latent_frames, shape.latent_height, shape.latent_width)
    return np.zeros(size, np.float32)


def build_sleeping(naps: Naps) -> Application:
    """The real pipeline over sleeping stages, with the limits of the real ones."""
    light: dict[str, Any] = {
        "ray_actor_options": {"num_cpus": 0.05},
        "max_ongoing_requests": 100,
    }
    stages = {
        "text_encoder": SleepingTextEncoder,
        "image_encoder": SleepingImageEncoder,
        "vae_encoder": SleepingVAEEncoder,
        "vae_decoder": SleepingVAEDecoder,
    }
    bound = {
        name: serve.deployment(kind, name=name, **light).bind(naps) for name, kind in stages.items()
    }
    gangs = {
        **light,
        "max_ongoing_requests": naps.clips_per_gang,
        "request_router_config": {"max_backoff_s": naps.max_backoff_s},
        "graceful_shutdown_timeout_s": 120.0,
        "graceful_shutdown_wait_loop_s": 0.5,
    }
    denoiser = serve.deployment(SleepingDenoiser, name="denoiser", **gangs).bind(naps)
    pipeline = {**light, "max_ongoing_requests": 10_000}
    return serve.deployment(Pipeline, name=PIPELINE, **pipeline).bind(
        bound["text_encoder"],
        bound["image_encoder"],
        bound["vae_encoder"],
        denoiser,
        bound["vae_decoder"],
        gpus_per_gang=1,
        logs=LogConfig(level="warning"),
    )
