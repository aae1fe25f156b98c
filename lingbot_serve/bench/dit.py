"""Starts the ranks of `bench dit`, gang size by gang size, and makes rows of what they report."""

import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path

from torch.multiprocessing.spawn import ProcessException, start_processes

from lingbot_serve.bench.dit_cases import DitCase, DitSettings, Measurement, gangs
from lingbot_serve.bench.dit_rank import RankWork, read_results, run_rank
from lingbot_serve.bench.flops import DiTSizes, forward_flop
from lingbot_serve.bench.ranks import check_gpus
from lingbot_serve.bench.records import DitRow, Origin

OnRow = Callable[[DitRow], None]
OnFailure = Callable[[DitCase, str], None]


def run_dit(
    cases: Iterable[DitCase],
    settings: DitSettings,
    origin: Origin,
    *,
    second_start: bool,
    on_row: OnRow,
    on_failure: OnFailure,
) -> None:
    """Measures cases and hands each row over as soon as its gang is done.

    A case that breaks its ranks (out of memory, say) is reported, and the rest goes on in new
    processes.

    Args:
        cases: Ordered as `all_cases` does.
        settings: How they are measured.
        origin: What every row says of the machine.
        second_start: Start every gang once more and time how it comes up with a warm cache.
        on_row: Called with each result.
        on_failure: Called with each case that failed, and why.

    Raises:
        ConfigurationError: There are fewer GPUs than a gang needs.
    """
    for size, members in gangs(cases):
        check_gpus(size, settings.device)
        own_cache = replace(settings, compile_cache=f"{settings.compile_cache}/{size}")
        is_cold = not any(Path(own_cache.compile_cache).glob("*"))
        measured = _measure(members, own_cache, on_failure)
        again = list(measured) if second_start else []
        started = _measure(again, own_cache, on_failure, start_only=True)
        rates = [max(m.matmul_tflops, m.start_matmul_tflops) for m in measured.values()]
        for case, measurement in measured.items():
            row = make_row(case, measurement, settings, origin, max(rates))
            if case.compiled and is_cold and case.build == members[0].build:
                row = replace(row, compile_cold_s=_extra_s(measurement, measurement.seconds))
            if case in started:
                row = _with_warm_start(row, started[case], first=case == members[0])
            on_row(row)


def make_row(
    case: DitCase,
    measured: Measurement,
    settings: DitSettings,
    origin: Origin,
    matmul_tflops: float,
) -> DitRow:
    """One case's figures as they are committed.

    Args:
        case: What ran.
        measured: By its ranks.
        settings: How.
        origin: Where.
        matmul_tflops: The best rate that rank 0 has seen in these processes.
    """
    config = settings.config
    sizes = DiTSizes(dim=config.dim, ffn_dim=config.ffn_dim, num_layers=config.num_layers)
    tflops = forward_flop(case.clip.num_tokens, sizes) / measured.seconds / 1e12
    return DitRow(
        **asdict(origin),
        model=settings.model,
        gpus=case.gpus,
        size=case.clip.size,
        frames=case.clip.frames,
        attention=measured.attention,
        sharding=measured.sharding,
        compile=case.compiled,
        dtype=settings.dtype,
        seconds=round(measured.seconds, 5),
        tflops=round(tflops, 4),
        matmul_tflops=round(matmul_tflops, 4),
        matmul_after_tflops=round(measured.matmul_tflops, 4),
        ratio=round(tflops / (case.gpus * matmul_tflops), 4),
        peak_gib=round(measured.peak_gib, 2),
        kept_modulations=measured.kept_modulations,
        kernel_shares=measured.kernel_shares,
        pair_seconds=_rounded(measured.pair_seconds),
        silent_seconds=_rounded(measured.silent_seconds),
        silent_pair_seconds=_rounded(measured.silent_pair_seconds),
        gather_s=_rounded(measured.gather_s),
    )


def _with_warm_start(row: DitRow, started: Measurement, *, first: bool) -> DitRow:
    """Adds how a new process with a warm compile cache came up; its first case is its start."""
    start_s = round(started.start_s - started.load_s, 2) if first else None
    return replace(row, compile_warm_s=_extra_s(started, row.seconds), warm_start_s=start_s)


def _extra_s(measured: Measurement, steady_s: float) -> float:
    return round(max(0.0, measured.first_s - steady_s), 2)


def _measure(
    cases: list[DitCase], settings: DitSettings, on_failure: OnFailure, *, start_only: bool = False
) -> dict[DitCase, Measurement]:
    """All cases of one gang size, in as few generations of processes as failures allow."""
    measured: dict[DitCase, Measurement] = {}
    while cases:
        results, problem = _run_gang(cases, settings, start_only=start_only)
        measured |= results
        cases = [case for case in cases if case not in results]
        if problem is not None and cases:
            on_failure(cases.pop(0), problem)
    return measured


def _run_gang(
    cases: list[DitCase], settings: DitSettings, *, start_only: bool
) -> tuple[dict[DitCase, Measurement], str | None]:
    """One generation of processes: its results, and what ended it early."""
    with tempfile.TemporaryDirectory(prefix="lingbot-bench-") as folder:
        work = RankWork(
            cases=tuple(cases),
            settings=settings,
            folder=folder,
            started=time.time(),
            start_only=start_only,
        )
        problem = None
        try:
            start_processes(run_rank, args=(work,), nprocs=cases[0].gpus, start_method="spawn")
        except ProcessException as error:
            problem = str(error).strip().rpartition("\n")[2]
        return read_results(Path(folder) / "results.jsonl", cases), problem


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 5)
