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
from lingbot_serve.bench.random_experts import RandomExperts, SilenceableMesh, random_experts
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
        cases: Of one gang size; those of one build in a row.
        settings: How they are measured.
        folder: Where ranks meet and rank 0 writes `results.jsonl`.
        started: `time.time()` when the processes were started.
        start_only: Measure the first forward of each case and nothing else.
    """

    cases: tuple[DitCase, ...]
    settings: DitSettings
    folder: str
    started: float
    start_only: bool


def run_rank(rank: int, work: RankWork) -> None:
    """Measures all cases together with the other ranks."""
    settings, size = work.settings, work.cases[0].gpus
    for variable in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        os.environ[variable] = settings.compile_cache
    device = join_ranks(rank, size, settings.device, Path(work.folder))
    mesh = SilenceableMesh.create(world_size=size, ulysses_degree=size, device_type=settings.device)
    assert isinstance(mesh, SilenceableMesh)
    with torch.no_grad():
        for case, measurement in _measure_all(work, device, mesh):
            if rank == 0:
                _report(Path(work.folder) / "results.jsonl", work.cases.index(case), measurement)
    dist.destroy_process_group()


def _measure_all(
    work: RankWork, device: torch.device, mesh: SilenceableMesh
) -> Iterator[tuple[DitCase, Measurement]]:
    dtype = getattr(torch, work.settings.dtype)
    rate = 0.0 if work.start_only else matmul_tflops(device, dtype)
    for _, cases in groupby(work.cases, key=lambda case: case.build):
        yield from _measure_build(list(cases), work, device, mesh, rate)


def _measure_build(
    cases: list[DitCase],
    work: RankWork,
    device: torch.device,
    mesh: SilenceableMesh,
    start_matmul_tflops: float,
) -> Iterator[tuple[DitCase, Measurement]]:
    begin_s = time.perf_counter()
    experts = random_experts(cases[0], work.settings, device, mesh)
    synchronise(device)
    load_s = time.perf_counter() - begin_s
    before = Before(work.started, load_s, start_matmul_tflops)
    for case in cases:
        torch.compiler.reset()  # each clip size compiles as the first of its gang does
        bench = CaseBench(case, work.settings, experts, device, mesh)
        yield case, bench.measure(before, start_only=work.start_only)


@dataclasses.dataclass(frozen=True, slots=True)
class Before:
    """What came before a case.

    Args:
        started: `time.time()` when the processes were started.
        load_s: Making the weights, which the start contains.
        matmul_tflops: Rate of this rank at the start.
    """

    started: float
    load_s: float
    matmul_tflops: float


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
        self._case = case
        self._settings = settings
        self._experts = experts
        self._dit = experts.dits[0]
        self._device = device
        self._mesh = mesh
        reset_peak(device)
        self._latent, self._clip, self._prompts = self._inputs()

    def measure(self, before: Before, *, start_only: bool) -> Measurement:
        """Times the forward, then what was asked for beside it.

        Args:
            before: What came before the case.
            start_only: Time the first forward and nothing else.
        """
        first_s = self._slowest_s(self._forward)
        start_s = time.time() - before.started
        seconds = first_s if start_only else self._median_s(self._forward)
        measured = Measurement(
            attention=self._experts.attention.value,
            sharding=self._experts.sharding.value,
            seconds=seconds,
            matmul_tflops=0.0 if start_only else matmul_tflops(self._device, self._dtype),
            start_matmul_tflops=before.matmul_tflops,
            peak_gib=0.0,
            kept_modulations=len(self._clip.modulations) / len(self._dit.blocks),
            first_s=first_s,
            start_s=start_s,
            load_s=before.load_s,
        )
        return measured if start_only else self._with_details(measured)

    def _with_details(self, measured: Measurement) -> Measurement:
        pair_seconds = self._pair_s()
        silent_seconds, silent_pair_seconds = self._silent_s()
        return dataclasses.replace(
            measured,
            pair_seconds=pair_seconds,
            peak_gib=slowest(peak_gib(self._device), self._device),
            gather_s=self._gather_s(measured.seconds),
            kernel_shares=self._kernel_shares(),
            silent_seconds=silent_seconds,
            silent_pair_seconds=silent_pair_seconds,
        )

    def _pair_s(self) -> float | None:
        if not self._settings.pair:
            return None
        self._pair()  # to warm up: it takes more memory than the forward
        return self._median_s(self._pair)

    def _kernel_shares(self) -> Mapping[str, float]:
        return kernel_shares(self._forward, self._device) if self._settings.profile else {}

    def _silent_s(self) -> tuple[float | None, float | None]:
        if self._case.gpus == 1 or not self._settings.silence:
            return None, None
        self._mesh.silence(True)
        pair_seconds = self._median_s(self._pair) if self._settings.pair else None
        seconds = self._median_s(self._forward), pair_seconds
        self._mesh.silence(False)
        return seconds

    def _gather_s(self, steady_s: float) -> float | None:
        if self._experts.sharding is not Sharding.PER_EXPERT:
            return None
        release_weights(self._dit)
        return max(0.0, self._slowest_s(self._forward) - steady_s)

    def _median_s(self, run: Callable[[], object]) -> float:
        return statistics.median(self._slowest_s(run) for _ in range(self._settings.repeats))

    def _slowest_s(self, run: Callable[[], object]) -> float:
        """What the slowest rank takes."""
        dist.barrier()
        synchronise(self._device)
        begin_s = time.perf_counter()
        run()
        synchronise(self._device)
        return slowest(time.perf_counter() - begin_s, self._device)

    def _forward(self) -> object:
        timestep = torch.tensor(_TIMESTEP, device=self._device)
        return self._dit(self._latent, timestep, self._clip, self._prompts[0])

    def _pair(self) -> object:
        timestep = torch.tensor(_TIMESTEP, device=self._device)
        return self._dit.predict(self._latent, timestep, self._clip, self._prompts)

    @property
    def _dtype(self) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, self._settings.dtype)
        return dtype

    def _inputs(self) -> tuple[Tensor, ClipCondition, list[tuple[BlockPrompt, ...]]]:
        generator = torch.Generator(self._device).manual_seed(0)
        case, config = self._case, self._dit.config
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
