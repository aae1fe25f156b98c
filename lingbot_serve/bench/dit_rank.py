"""One rank of `bench dit`: the real DiT on weights drawn on the device, timed."""

import dataclasses
import json
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from lingbot_serve.bench.dit_cases import DitCase, DitSettings, Measurement
from lingbot_serve.bench.kernels import kernel_shares
from lingbot_serve.bench.random_experts import (
    RandomExperts,
    SilenceableMesh,
    forget_earlier,
    random_experts,
)
from lingbot_serve.bench.ranks import join_ranks, slowest
from lingbot_serve.bench.timing import matmul_tflops, peak_gib, reset_peak, synchronise
from model.block import ClipCondition
from model.denoiser import modulation_budget
from model.layers import BlockPrompt
from model.parallel.parallelize import release_weights
from model.parallel.sharding import Sharding, device_memory
from model.types import LATENT_CHANNELS

_TEXT_TOKENS, _IMAGE_TOKENS = 77, 257
_TIMESTEP = 900


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RankWork:
    """What every rank is told.

    Args:
        cases: Of one gang; those of one build in a row.
        settings: How they are measured.
        folder: Where ranks meet and rank 0 writes `results.jsonl`.
    """

    cases: tuple[DitCase, ...]
    settings: DitSettings
    folder: str


def run_rank(rank: int, work: RankWork) -> None:
    """Measures all cases together with the other ranks."""
    settings, (size, cfg_parallel) = work.settings, work.cases[0].gang
    for variable in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        os.environ[variable] = settings.compile_cache
    device = join_ranks(rank, size, settings.device, Path(work.folder))
    mesh = SilenceableMesh.create(
        world_size=size,
        ulysses_degree=size // 2 if cfg_parallel else size,
        device_type=settings.device,
        cfg_parallel=cfg_parallel,
    )
    assert isinstance(mesh, SilenceableMesh)
    with torch.no_grad():
        for case, measurement in _measure_all(work, device, mesh):
            if rank == 0:
                _report(Path(work.folder) / "results.jsonl", work.cases.index(case), measurement)
    dist.destroy_process_group()


def _measure_all(
    work: RankWork, device: torch.device, mesh: SilenceableMesh
) -> Iterator[tuple[DitCase, Measurement]]:
    rate = matmul_tflops(device, getattr(torch, work.settings.dtype))
    for _, cases in groupby(work.cases, key=lambda case: case.build):
        for case, measured in _measure_build(list(cases), work.settings, device, mesh):
            yield case, dataclasses.replace(measured, start_matmul_tflops=rate)


def _measure_build(
    cases: list[DitCase], settings: DitSettings, device: torch.device, mesh: SilenceableMesh
) -> Iterator[tuple[DitCase, Measurement]]:
    """A generator of its own, whose weights are gone before the next build's are drawn."""
    experts = random_experts(cases[0], settings, device, mesh)
    for case in cases:
        # Each clip size compiles, and has memory to keep modulations, as the only one does.
        forget_earlier(device)
        yield case, CaseBench(case, settings, experts, device, mesh).measure()


@dataclasses.dataclass(frozen=True, slots=True)
class Times:
    """Medians, of the slowest rank.

    Args:
        seconds: As the gang works.
        silent_seconds: Without communication; None where it was not asked for or there is none.
    """

    seconds: float
    silent_seconds: float | None

    def halved(self) -> "Times":
        """Of one of two forwards that run side by side."""
        silent = None if self.silent_seconds is None else self.silent_seconds / 2
        return Times(self.seconds / 2, silent)


class CaseBench:
    """One case on loaded weights.

    Args:
        case: What to run.
        settings: How to measure.
        experts: With their weights; the first one runs.
        device: This rank's.
        mesh: The gang.
    """

    def __init__(
        self,
        case: DitCase,
        settings: DitSettings,
        experts: RandomExperts,
        device: torch.device,
        mesh: SilenceableMesh,
    ) -> None:
        self._settings = settings
        self._experts = experts
        self._dit = experts.dits[0]
        self._device = device
        self._mesh = mesh
        self._guidance = mesh.guidance()
        self._in_halves = case.cfg_parallel
        reset_peak(device)
        self._latent, self._clip, self._prompts = self._inputs(case)

    def measure(self) -> Measurement:
        """Times the forward, then what was asked for beside it."""
        first_s = self._slowest_s(self._run)
        run = self._median_times(self._run)
        after_tflops = matmul_tflops(self._device, self._dtype)
        forward, step = (run.halved(), run) if self._in_halves else (run, self._step_times())
        return Measurement(
            attention=self._experts.attention.value,
            sharding=self._experts.sharding.value,
            seconds=forward.seconds,
            silent_seconds=forward.silent_seconds,
            pair_seconds=None if step is None else step.seconds,
            silent_pair_seconds=None if step is None else step.silent_seconds,
            together_pair_seconds=self._together_s(),
            matmul_tflops=after_tflops,
            peak_gib=slowest(peak_gib(self._device), self._device),
            kept_modulations=len(self._clip.modulations) / len(self._dit.blocks),
            compile_s=max(0.0, first_s - run.seconds),
            gather_s=self._gather_s(run.seconds),
            kernel_shares=self._kernel_shares(),
        )

    def _step_times(self) -> Times | None:
        if not self._settings.pair:
            return None
        self._step()  # to warm up: it takes more memory than the forward
        return self._median_times(self._step)

    def _together_s(self) -> float | None:
        """A step whose prompts go through each block side by side; None if they do anyway."""
        if self._in_halves or not (self._settings.pair and self._dit.prompts_take_turns):
            return None
        self._dit.prompts_take_turns = False
        self._step()
        seconds = [self._slowest_s(self._step) for _ in range(self._settings.repeats)]
        self._dit.prompts_take_turns = True
        return statistics.median(seconds)

    def _kernel_shares(self) -> Mapping[str, float]:
        return kernel_shares(self._run, self._device) if self._settings.profile else {}

    def _gather_s(self, steady_s: float) -> float | None:
        if self._experts.sharding is not Sharding.PER_EXPERT:
            return None
        release_weights(self._dit)
        return max(0.0, self._slowest_s(self._run) - steady_s)

    def _median_times(self, run: Callable[[], object]) -> Times:
        """With and without communication in turn, so that both see a GPU of the same heat."""
        silence = self._settings.silence and bool(self._mesh.sequences)
        loud_s, silent_s = [], []
        for _ in range(self._settings.repeats):
            loud_s.append(self._slowest_s(run))
            if silence:
                self._mesh.silence(True)
                silent_s.append(self._slowest_s(run))
                self._mesh.silence(False)
        return Times(statistics.median(loud_s), statistics.median(silent_s) if silence else None)

    def _slowest_s(self, run: Callable[[], object]) -> float:
        """What the slowest rank takes."""
        dist.barrier()
        synchronise(self._device)
        begin_s = time.perf_counter()
        run()
        synchronise(self._device)
        return slowest(time.perf_counter() - begin_s, self._device)

    def _run(self) -> object:
        """A forward, or where two halves of a gang have none for one prompt, a step."""
        return self._step() if self._in_halves else self._forward()

    def _forward(self) -> object:
        timestep = torch.tensor(_TIMESTEP, device=self._device)
        return self._dit(self._latent, timestep, self._clip, self._prompts[0])

    def _step(self) -> object:
        timestep = torch.tensor(_TIMESTEP, device=self._device)
        return self._guidance.flows(self._dit, self._latent, timestep, self._clip, self._prompts)

    @property
    def _dtype(self) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, self._settings.dtype)
        return dtype

    def _inputs(self, case: DitCase) -> tuple[Tensor, ClipCondition, list[tuple[BlockPrompt, ...]]]:
        generator = torch.Generator(self._device).manual_seed(0)
        config = self._dit.config
        shape = case.clip.shape
        grid = (shape.latent_frames, shape.latent_height, shape.latent_width)

        def draw(*size: int) -> Tensor:
            return torch.randn(size, generator=generator, device=self._device)

        memory = device_memory(self._device, self._mesh, self._settings.memory_share)
        budget = modulation_budget(memory, self._experts.as_loaded())
        kept_blocks = budget // self._dit.modulation_bytes(case.clip.num_tokens)
        clip = self._dit.condition_clip(
            draw(config.in_dim - LATENT_CHANNELS, *grid),
            draw(config.camera_dim, *grid),
            kept_blocks=kept_blocks,
        )
        image = None if config.image_dim is None else draw(_IMAGE_TOKENS, config.image_dim)
        prompts = [
            self._dit.condition_prompt(draw(_TEXT_TOKENS, config.text_dim), image) for _ in range(2)
        ]
        return draw(LATENT_CHANNELS, *grid), clip, prompts


def _report(path: Path, index: int, measurement: Measurement) -> None:
    with path.open("a") as file:
        file.write(json.dumps({"case": index, **dataclasses.asdict(measurement)}) + "\n")


def read_results(path: Path, cases: Iterable[DitCase]) -> dict[DitCase, Measurement]:
    """What rank 0 has written so far."""
    if not path.exists():
        return {}
    ordered, results = list(cases), {}
    for line in path.read_text().splitlines():
        values = json.loads(line)
        case = ordered[values.pop("case")]
        results[case] = Measurement(**values)
    return results
