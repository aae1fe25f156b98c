"""`bench e2e`: one clip over HTTP against what its forwards, encoding and decoding take alone.

The parts are measured first, in the same call and on the same GPUs: a gang's forward on random
weights as `bench dit` does it, the VAE's two stages on the checkpoint's. Then the service starts.
"""

import io
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

import numpy as np
from PIL import Image
from rich.console import Console

from cluster.config import GangConfig
from deployments.config import ServeConfig
from deployments.keys.settings import AuthMode
from deployments.pipeline_config import PipelineConfig, VAEStageConfig
from lingbot_serve.bench.clips import Clip
from lingbot_serve.bench.dit import run_dit
from lingbot_serve.bench.dit_cases import (
    Attention,
    DitCase,
    DitSettings,
    WeightSharding,
)
from lingbot_serve.bench.records import DitRow, E2eRow, Origin, VaeRow
from lingbot_serve.bench.vae import VaeSettings, run_vae
from lingbot_serve.camera import dolly
from lingbot_serve.client.sync import Client
from lingbot_serve.client.video import Video
from lingbot_serve.errors import ClientError
from lingbot_serve.serve import running_cluster
from lingbot_serve.settings import ServerFlags, free_port, read_settings
from model.checkpoint.layout import locate_checkpoint
from model.config import read_dit_config

_DRAIN_TIMEOUT_S = 5.0
_PROMPT = "a lake at dawn, mist over the water, mountains behind it, the camera moves forward"


@dataclass(frozen=True, slots=True, kw_only=True)
class E2eSettings:
    """Which clip, and how often.

    Args:
        flags: Of the service.
        clip: Size and length.
        steps: Solver steps.
        warm_steps: Of the clip before the timed one, which compiles and fills caches.
        repeats: Timed forwards, encodings and decodings.
        compile_cache: Where the measured forward keeps compiled kernels.
        forwards: Measured before in this call, to save measuring one again.
    """

    flags: ServerFlags
    clip: Clip
    steps: int
    warm_steps: int
    repeats: int
    compile_cache: str
    forwards: tuple[DitRow, ...]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a clip is made of, each measured alone."""

    forward: DitRow
    encode_s: float
    decode_s: float

    def floor_s(self, steps: int) -> float:
        """A clip that takes no time beside its parts: two forwards a step."""
        return 2 * steps * self.forward.seconds + self.encode_s + self.decode_s

    def pairs_floor_s(self, steps: int) -> float:
        """The same with two prompts in one pass, as the denoiser runs them."""
        pair_s = self.forward.pair_seconds or 2 * self.forward.seconds
        return steps * pair_s + self.encode_s + self.decode_s


def run_e2e(settings: E2eSettings, origin: Origin, console: Console) -> tuple[E2eRow, DitRow]:
    """Measures the parts, then the clip.

    Returns:
        The clip's row, and the forward's, which is one of `bench dit`.

    Raises:
        LingBotError: The service did not start, or the clip failed.
    """
    with tempfile.TemporaryDirectory(prefix="lingbot-bench-") as folder:
        own = replace(
            settings.flags,
            host="127.0.0.1",
            auth=AuthMode.OFF,
            port=free_port(),
            data_dir=Path(folder) / "data",
        )
        config = read_settings(own)
        parts = measure_parts(config.pipeline, settings, origin)
        console.print(f"forward {parts.forward.seconds:.4f} s, encode {parts.encode_s:.3f} s")
        console.print(f"decode {parts.decode_s:.3f} s: {parts.floor_s(settings.steps):.2f} s")
        clip = _time_clip(config, settings, Path(folder), console)
    row = _row(settings, config.pipeline.denoiser.gang, origin, parts, clip)
    return row, parts.forward


@dataclass(frozen=True, slots=True)
class _Clip:
    """What the service took."""

    ready_s: float
    wall_s: float
    video: Video


def _row(
    settings: E2eSettings, gang: GangConfig, origin: Origin, parts: Parts, clip: _Clip
) -> E2eRow:
    return E2eRow(
        **asdict(origin),
        gpus=gang.size,
        size=settings.clip.size,
        frames=settings.clip.frames,
        steps=settings.steps,
        attention=parts.forward.attention,
        sharding=parts.forward.sharding,
        compile=gang.compiled,
        wall_s=round(clip.wall_s, 3),
        forward_s=parts.forward.seconds,
        encode_s=parts.encode_s,
        decode_s=parts.decode_s,
        ratio=round(clip.wall_s / parts.floor_s(settings.steps), 4),
        ratio_to_pairs=round(clip.wall_s / parts.pairs_floor_s(settings.steps), 4),
        ready_s=round(clip.ready_s, 2),
        stage_durations=clip.video.stage_durations,
    )


def measure_parts(pipeline: PipelineConfig, settings: E2eSettings, origin: Origin) -> Parts:
    """The gang's forward, and the VAE's stages, as the service is configured."""
    forward = _known_forward(pipeline.denoiser.gang, settings, origin)
    forward = forward or _measure_forward(pipeline, settings, origin)
    stages = {"encode": pipeline.vae_encoder, "decode": pipeline.vae_decoder}
    # In a process of its own, which leaves no memory taken on the GPU.
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        seconds = {
            direction: pool.submit(
                _vae_seconds, _vae_settings(direction, stage, pipeline.checkpoint, settings), origin
            ).result()
            for direction, stage in stages.items()
        }
    return Parts(forward, seconds["encode"], seconds["decode"])


def _known_forward(gang: GangConfig, settings: E2eSettings, origin: Origin) -> DitRow | None:
    """The forward of just this gang, if it was measured today, with this tree, on such a GPU."""
    clip = settings.clip
    wanted = (origin.gpu, origin.date, origin.commit, gang.size, clip.size, clip.frames)
    for row in settings.forwards:
        known = (row.gpu, row.date, row.commit, row.gpus, row.size, row.frames)
        fits = gang.attention in ("auto", row.attention) and gang.sharding in ("auto", row.sharding)
        if known == wanted and fits and row.compile == gang.compiled and row.dtype == gang.dtype:
            return row
    return None


def _measure_forward(pipeline: PipelineConfig, settings: E2eSettings, origin: Origin) -> DitRow:
    gang = pipeline.denoiser.gang
    case = DitCase(
        gpus=gang.size,
        attention=Attention(gang.attention),
        sharding=WeightSharding(gang.sharding),
        compiled=gang.compiled,
        clip=settings.clip,
    )
    dit_settings = DitSettings(
        model="checkpoint",
        config=read_dit_config(locate_checkpoint(pipeline.checkpoint)),
        device=gang.device,
        dtype=gang.dtype,
        memory_share=gang.gpus_per_rank,
        experts=2,
        repeats=settings.repeats,
        pair=True,
        profile=False,
        silence=False,
        compile_cache=settings.compile_cache,
    )
    rows: list[DitRow] = []

    def refuse(failed: DitCase, problem: str) -> None:
        raise ClientError(f"{failed}: {problem}")

    run_dit([case], dit_settings, origin, second_start=False, on_row=rows.append, on_failure=refuse)
    return rows[0]


def _vae_settings(
    direction: str, stage: VAEStageConfig, checkpoint: Path, settings: E2eSettings
) -> VaeSettings:
    return VaeSettings(
        checkpoint=checkpoint,
        device=stage.device,
        directions=(direction,),
        dtypes=(stage.dtype,),
        compiled=(stage.compiled,),
        clips=(settings.clip,),
        repeats=settings.repeats,
        compare=False,
    )


def _vae_seconds(settings: VaeSettings, origin: Origin) -> float:
    rows: list[VaeRow] = []
    run_vae(settings, origin, rows.append)
    return rows[0].seconds


def _time_clip(config: ServeConfig, settings: E2eSettings, folder: Path, console: Console) -> _Clip:
    begin_s = perf_counter()
    with running_cluster(config, console, drain_timeout_s=_DRAIN_TIMEOUT_S) as address:
        ready_s = perf_counter() - begin_s
        image = _first_frame(settings.clip)
        with Client(address, timeout_s=config.pipeline.longest_clip_s) as client:
            if settings.warm_steps:
                _make(client, settings.clip, image, settings.warm_steps, folder / "warm.mp4")
            begin_s = perf_counter()
            video = _make(client, settings.clip, image, settings.steps, folder / "clip.mp4")
            return _Clip(ready_s, perf_counter() - begin_s, video)


def _first_frame(clip: Clip) -> bytes:
    columns = np.linspace(0, 255, clip.width, dtype=np.uint8)
    pixels = np.broadcast_to(columns[None, :, None], (clip.height, clip.width, 3))
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
    return file.getvalue()


def _make(client: Client, clip: Clip, image: bytes, steps: int, path: Path) -> Video:
    """A clip whose camera moves forward; each number of steps has a prompt that is in no cache."""
    job = client.make(
        path,
        image=image,
        prompt=f"{_PROMPT}, {steps} steps",
        camera=dolly(clip.frames),
        size=clip.size,
        num_frames=clip.frames,
        num_inference_steps=steps,
        seed=0,
    )
    return job.video
