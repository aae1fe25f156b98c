"""What travels between stages, into the metrics: bytes of each hand-over and how long it took."""

import time

from cluster.metrics import count, observe
from deployments.messages import ClipSettings, DecodedVideo, Stage
from deployments.names import PIPELINE
from model.types import FirstFrame, ImageEmbeds, Latents, TextEmbeds
from monitoring.stages import TRANSFER_BYTES, TRANSFER_SECONDS


def note_encodings(
    settings: ClipSettings,
    texts: tuple[TextEmbeds, TextEmbeds],
    first_frame: FirstFrame,
    image: ImageEmbeds | None,
) -> None:
    """The encoders' results have arrived at the denoiser."""
    into = Stage.DENOISER.value
    _bytes(Stage.TEXT_ENCODER.value, into, sum(text.embeds.nbytes for text in texts))
    _bytes(Stage.VAE_ENCODER.value, into, first_frame.latent.nbytes)
    if image is not None:
        _bytes(Stage.IMAGE_ENCODER.value, into, image.embeds.nbytes)
    if settings.sent_s is not None:
        _seconds(PIPELINE, into, time.time() - settings.sent_s)


def note_latents(latents: Latents) -> None:
    """The latents have arrived at the pipeline, which hands them on at once."""
    _bytes(Stage.DENOISER.value, PIPELINE, latents.values.nbytes)
    _bytes(PIPELINE, Stage.VAE_DECODER.value, latents.values.nbytes)


def note_video(video: DecodedVideo, sent_s: float) -> None:
    """The decoded clip has arrived at the pipeline.

    Args:
        video: The clip.
        sent_s: Unix time at which its latents left the pipeline.
    """
    frames = 0 if video.frames is None else video.frames.nbytes
    _bytes(Stage.VAE_DECODER.value, PIPELINE, len(video.mp4) + frames)
    if video.received_s is not None and video.ready_s is not None:
        _seconds(PIPELINE, Stage.VAE_DECODER.value, video.received_s - sent_s)
        _seconds(Stage.VAE_DECODER.value, PIPELINE, time.time() - video.ready_s)


def _bytes(source: str, target: str, num_bytes: int) -> None:
    count(TRANSFER_BYTES, num_bytes, source=source, target=target)


def _seconds(source: str, target: str, seconds: float) -> None:
    observe(TRANSFER_SECONDS, seconds, source=source, target=target)
