"""The vae_decoder stage: latents to frames to MP4, a few latent frames at a time."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import numpy as np

from cluster.logs import LogConfig
from deployments.logs import configure_replica_logging
from deployments.messages import DecodedVideo, Stage
from deployments.model_thread import ModelThread
from deployments.pipeline_config import VAEStageConfig
from deployments.startup import compiling, loading
from deployments.stills import StillsWriter
from deployments.video import Mp4Writer
from model.checkpoint.layout import locate_checkpoint
from model.types import (
    SPATIAL_STRIDE,
    TEMPORAL_STRIDE,
    Frames,
    Latents,
    Step,
    UInt8Array,
)


class VAEDecoderStage:
    """One replica of the VAE's decoding half.

    Args:
        checkpoint: Directory of the checkpoint.
        config: Device, dtype, threads and whether it is compiled.
        logs: How the replica writes its log.
    """

    def __init__(self, checkpoint: str, config: VAEStageConfig, logs: LogConfig) -> None:
        from model.vae_decoder import VAEDecoder

        configure_replica_logging(logs, Stage.VAE_DECODER.value)
        self._thread = ModelThread(config, Stage.VAE_DECODER)
        self._num_threads = config.threads or 0
        with loading(Stage.VAE_DECODER):
            self._model = VAEDecoder.load(
                locate_checkpoint(checkpoint),
                device=self._thread.device,
                dtype=self._thread.dtype,
                compiled=config.compiled,
            )
        if config.compiled:
            with compiling(Stage.VAE_DECODER):
                self._model.warm_up()

    async def decode(
        self, latents: Latents, keep_frames: bool
    ) -> AsyncGenerator[Step | DecodedVideo, None]:
        """Decodes a clip and encodes its MP4 along the way.

        Args:
            latents: [16, f, h, w].
            keep_frames: Whether the raw frames come back too.

        Yields:
            A `Step` after each few latent frames, then the `DecodedVideo`.
        """
        received_s = time.time()
        _, total, height, width = latents.values.shape
        writer = Mp4Writer(
            height=height * SPATIAL_STRIDE,
            width=width * SPATIAL_STRIDE,
            num_threads=self._num_threads,
        )
        stills = StillsWriter(TEMPORAL_STRIDE * (total - 1) + 1)
        kept: list[UInt8Array] = []
        num_latents = 0
        async with aclosing(self._thread.iterate(self._model.decode(latents))) as items:
            async for frames in items:
                await self._thread.call(writer.write, frames.pixels)
                stills.write(frames.pixels)
                kept += _kept(frames, keep_frames)
                num_latents += max(
                    1, len(frames.pixels) // TEMPORAL_STRIDE
                )  # the first is one frame
                yield Step(num_latents, total)
        mp4 = await self._thread.call(writer.finish)
        pictures = await self._thread.call(stills.finish)
        pixels = np.concatenate(kept) if keep_frames else None
        yield DecodedVideo(mp4, pixels, received_s, ready_s=time.time(), stills=pictures)


def _kept(frames: Frames, keep: bool) -> list[UInt8Array]:
    return [frames.pixels] if keep else []
