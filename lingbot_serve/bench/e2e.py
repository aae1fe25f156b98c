"""`bench e2e`: one clip over HTTP against what its forwards, encoding and decoding take alone.

The VAE's two stages are measured first, on the checkpoint's weights, then the clip through the
service. A forward of the gang as it turned out to be is measured last, on random weights. All on
the same GPUs.
"""

import io
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any

import httpx
import numpy as np
from PIL import Image
from rich.console import Console

from cluster.config import GangConfig
from deployments.config import ServeConfig
from deployments.keys.settings import AuthMode
from deployments.listeners import free_port
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
from lingbot_serve.settings import ServerFlags, read_settings
from model.checkpoint.layout import locate_checkpoint
from model.config import read_dit_config

_DRAIN_TIMEOUT_S = 5.0
_FACTS_POLL_S = 0.2
# Of `model.types.DenoiserFacts`.
_FACTS = ("start_s", "load_s", "warm_up_s", "attention", "sharding")
_EXPERTS = 2  # that a rank of the service holds
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
        second_start: Whether the service is started once more and that is timed too.
    """

    flags: ServerFlags
    clip: Clip
    steps: int
    warm_steps: int
    repeats: int
    compile_cache: str
    second_start: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A start of the service, until when each part was waited for, and what the gang tells."""

    ready_s: float
    waited_s: Mapping[str, float]
    start_s: float
    load_s: float
    warm_up_s: float
    attention: str
    sharding: str


@dataclass(frozen=True, slots=True)
class _Clip:
    """What the service took."""

    start: Start
    wall_s: float
    video: Video


def run_e2e(
    settings: E2eSettings, origin: Origin, console: Console, on_row: Callable[[E2eRow], None]
) -> None:
    """Measures the VAE, the clip and the forward.

    Args:
        settings: Which clip.
        origin: What the row says of the machine.
        console: Where progress is told.
        on_row: Called with the row, and again with the second start in it.

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
        vae_s = _vae_stages_s(config.pipeline, settings, origin)
        console.print(f"encode {vae_s['encode']:.3f} s, decode {vae_s['decode']:.3f} s")
        clip = _time_clip(config, settings, Path(folder), console)
        console.print(f"clip {clip.wall_s:.2f} s, {clip.start}")
        forward = _measure_forward(config.pipeline, clip.start, settings, origin)
        row = _row(settings, config.pipeline.denoiser.gang, origin, forward, vae_s, clip)
        on_row(row)
        if settings.second_start:
            with _started(config, console) as (_, again):
                on_row(
                    replace(
                        row,
                        second_ready_s=round(again.ready_s, 2),
                        second_gang_s=again.start_s,
                        second_load_s=again.load_s,
                        second_warm_up_s=again.warm_up_s,
                        second_waited_s=again.waited_s,
                    )
                )


def _row(
    settings: E2eSettings,
    gang: GangConfig,
    origin: Origin,
    forward: DitRow,
    vae_s: Mapping[str, float],
    clip: _Clip,
) -> E2eRow:
    denoising_s = clip.wall_s - vae_s["encode"] - vae_s["decode"]
    return E2eRow(
        **asdict(origin),
        gpus=gang.size,
        cfg_parallel=gang.cfg_parallel,
        size=settings.clip.size,
        frames=settings.clip.frames,
        steps=settings.steps,
        attention=forward.attention,
        sharding=forward.sharding,
        compile=gang.compiled,
        wall_s=round(clip.wall_s, 3),
        forward_s=forward.seconds,
        encode_s=vae_s["encode"],
        decode_s=vae_s["decode"],
        ratio=round(denoising_s / (2 * settings.steps * forward.seconds), 4),
        ratio_to_pairs=round(denoising_s / (settings.steps * forward.step_s), 4),
        ready_s=round(clip.start.ready_s, 2),
        load_s=clip.start.load_s,
        warm_up_s=clip.start.warm_up_s,
        stage_durations=clip.video.stage_durations,
    )


def _vae_stages_s(
    pipeline: PipelineConfig, settings: E2eSettings, origin: Origin
) -> Mapping[str, float]:
    """The VAE's stages as the service is configured."""
    stages = {"encode": pipeline.vae_encoder, "decode": pipeline.vae_decoder}
    # In a process of its own, which leaves no memory taken on the GPU.
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return {
            direction: pool.submit(
                _vae_seconds, _vae_settings(direction, stage, pipeline.checkpoint, settings), origin
            ).result()
            for direction, stage in stages.items()
        }


def _measure_forward(
    pipeline: PipelineConfig, start: Start, settings: E2eSettings, origin: Origin
) -> DitRow:
    gang = pipeline.denoiser.gang
    case = DitCase(
        gpus=gang.size,
        cfg_parallel=gang.cfg_parallel,
        attention=Attention(start.attention),
        sharding=WeightSharding(start.sharding),
        compiled=gang.compiled,
        clip=settings.clip,
    )
    dit_settings = DitSettings(
        model="checkpoint",
        config=read_dit_config(locate_checkpoint(pipeline.checkpoint)),
        device=gang.device,
        dtype=gang.dtype,
        memory_share=gang.gpus_per_rank,
        experts=_EXPERTS,
        repeats=settings.repeats,
        pair=True,
        profile=False,
        silence=False,
        compile_cache=settings.compile_cache,
    )
    rows: list[DitRow] = []

    def refuse(failed: DitCase, problem: str) -> None:
        raise ClientError(f"{failed}: {problem}")

    run_dit([case], dit_settings, origin, on_row=rows.append, on_failure=refuse)
    return rows[-1]


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
    with _started(config, console) as (address, start):
        image = _first_frame(settings.clip)
        with Client(address, timeout_s=config.pipeline.longest_clip_s) as client:
            if settings.warm_steps:
                _make(client, settings.clip, image, settings.warm_steps, folder / "warm.mp4")
            begin_s = perf_counter()
            video = _make(client, settings.clip, image, settings.steps, folder / "clip.mp4")
            return _Clip(start, perf_counter() - begin_s, video)


@contextmanager
def _started(config: ServeConfig, console: Console) -> Iterator[tuple[str, Start]]:
    begin_s = perf_counter()
    waited_s: dict[str, float] = {}

    def note(parts: list[str]) -> None:
        waited_s.update(dict.fromkeys(parts, round(perf_counter() - begin_s, 1)))

    cluster = running_cluster(config, console, drain_timeout_s=_DRAIN_TIMEOUT_S, on_wait=note)
    with cluster as server:
        ready_s = perf_counter() - begin_s
        facts = _gang_facts(server.url)
        of_gang = {name: facts[name] for name in _FACTS}
        yield server.url, Start(ready_s=ready_s, waited_s=waited_s, **of_gang)


def _gang_facts(address: str) -> Mapping[str, Any]:
    """What the gang tells of itself; a gateway hears of it a moment after it is ready."""
    while True:
        answer = httpx.get(f"{address}/readyz", trust_env=False)
        facts: Mapping[str, Any] | None = answer.json().get("denoiser")
        if facts is not None:
            return facts
        time.sleep(_FACTS_POLL_S)


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
