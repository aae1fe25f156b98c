"""`bench vae`: how long the first frame's encoding and a clip's decoding take, and how exactly."""

import math
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from lingbot_serve.bench.clips import Clip
from lingbot_serve.bench.records import Origin, VaeRow
from lingbot_serve.bench.timing import peak_gib, reset_peak, synchronise
from model.checkpoint.layout import CheckpointPaths, locate_checkpoint
from model.checkpoint.synthetic import TINY, write_synthetic_checkpoint
from model.types import LATENT_CHANNELS, FloatArray, Latents, UInt8Array, VideoShape
from model.vae_decoder import VAEDecoder
from model.vae_encoder import VAEEncoder

_PEAK = 2.0  # pixels lie in [-1, 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class VaeSettings:
    """How the VAE is measured.

    Args:
        checkpoint: Where its weights lie.
        device: "cuda" or "cpu".
        directions: "encode" and "decode", or one of them.
        dtypes: To measure.
        compiled: To measure.
        clips: Sizes and lengths.
        repeats: Timed runs.
        compare: Whether the results are held against float32, which takes a run of it.
    """

    checkpoint: Path
    device: str
    directions: tuple[str, ...]
    dtypes: tuple[str, ...]
    compiled: tuple[bool, ...]
    clips: tuple[Clip, ...]
    repeats: int
    compare: bool = True


@dataclass(frozen=True, slots=True)
class _Timed:
    """Durations of one stage, and what it made, in float32 on the device."""

    first_s: float
    seconds: float
    peak_gib: float
    result: Tensor


def random_vae(directory: Path, vae_dim: int) -> Path:
    """Writes a checkpoint whose VAE has this width, and whose other parts are tiny."""
    write_synthetic_checkpoint(directory, seed=0, size=replace(TINY, vae_dim=vae_dim))
    return directory


def run_vae(settings: VaeSettings, origin: Origin, on_row: Callable[[VaeRow], None]) -> None:
    """Measures every combination, encoding and decoding.

    Raises:
        CheckpointError: The VAE's weights do not fit.
    """
    checkpoint = locate_checkpoint(settings.checkpoint)
    for clip in settings.clips:
        shape = clip.shape
        for name in settings.directions:
            bench, exact = _BENCHES[name], None
            if settings.compare:
                once = replace(settings, repeats=0)
                with exact_float32():
                    exact = bench(checkpoint, shape, once, dtype="float32", compiled=False)
            for dtype in settings.dtypes:
                for compiled in settings.compiled:
                    timed = bench(checkpoint, shape, settings, dtype=dtype, compiled=compiled)
                    on_row(_row(origin, name, clip, dtype, compiled, timed, exact))


def _row(
    origin: Origin,
    direction: str,
    clip: Clip,
    dtype: str,
    compiled: bool,
    timed: _Timed,
    exact: _Timed | None,
) -> VaeRow:
    return VaeRow(
        **asdict(origin),
        direction=direction,
        size=clip.size,
        frames=clip.frames,
        dtype=dtype,
        compile=compiled,
        seconds=round(timed.seconds, 4),
        psnr_db=None if exact is None else psnr_db(timed.result, exact.result),
        peak_gib=round(timed.peak_gib, 2),
        first_s=round(timed.first_s, 2),
    )


def decode_bench(
    checkpoint: CheckpointPaths,
    shape: VideoShape,
    settings: VaeSettings,
    *,
    dtype: str,
    compiled: bool,
) -> _Timed:
    """A whole clip of normal latents to bytes on the host, as the stage does it."""
    device = torch.device(settings.device)
    torch.compiler.reset()  # each case compiles as the first of its process does
    reset_peak(device)
    decoder = VAEDecoder.load(
        checkpoint, device=device, dtype=getattr(torch, dtype), compiled=compiled
    )
    latents = Latents(_normal(LATENT_CHANNELS, *_grid(shape)))

    def run() -> None:
        for _ in decoder.decode(latents):
            pass

    first_s, seconds = _time(run, device, settings.repeats)
    pixels = torch.cat([chunk.float() for chunk in decoder.decode_float(latents)], dim=1)
    return _Timed(first_s, seconds, peak_gib(device), pixels)


def encode_bench(
    checkpoint: CheckpointPaths,
    shape: VideoShape,
    settings: VaeSettings,
    *,
    dtype: str,
    compiled: bool,
) -> _Timed:
    """An image of noise and the grey frames after it."""
    device = torch.device(settings.device)
    torch.compiler.reset()  # each case compiles as the first of its process does
    reset_peak(device)
    encoder = VAEEncoder.load(
        checkpoint, device=device, dtype=getattr(torch, dtype), compiled=compiled
    )
    image = _noise_image(shape)
    first_s, seconds = _time(lambda: encoder.encode(image, shape), device, settings.repeats)
    latent = torch.from_numpy(encoder.encode(image, shape).latent).to(device)
    return _Timed(first_s, seconds, peak_gib(device), latent)


_BENCHES = {"encode": encode_bench, "decode": decode_bench}


def psnr_db(ours: Tensor, exact: Tensor) -> float | None:
    """Peak signal-to-noise ratio over the range of pixels; None where nothing differs."""
    error = float((ours - exact).square().mean())
    return round(10 * math.log10(_PEAK**2 / error), 2) if error else None


def _time(run: Callable[[], object], device: torch.device, repeats: int) -> tuple[float, float]:
    """Seconds of the first run, and the median of later ones; nothing runs for no repeats."""
    if not repeats:
        return 0.0, 0.0

    def seconds() -> float:
        synchronise(device)
        begin_s = perf_counter()
        run()
        synchronise(device)
        return perf_counter() - begin_s

    return seconds(), statistics.median(seconds() for _ in range(repeats))


def _grid(shape: VideoShape) -> tuple[int, int, int]:
    return shape.latent_frames, shape.latent_height, shape.latent_width


def _normal(*size: int) -> FloatArray:
    return np.random.default_rng(0).standard_normal(size, dtype=np.float32)


def _noise_image(shape: VideoShape) -> UInt8Array:
    noise = np.random.default_rng(0).integers(0, 256, (shape.height, shape.width, 3))
    return noise.astype(np.uint8)


@contextmanager
def exact_float32() -> Iterator[None]:
    """Keeps cuDNN from rounding float32 convolutions to TF32, as it does by default."""
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = allowed
