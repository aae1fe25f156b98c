"""Starts the ranks of `bench dit`, gang size by gang size, and makes rows of what they report."""

import tempfile
from collections.abc import Callable, Iterable, Mapping
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
OnResults = Callable[[Mapping[DitCase, Measurement]], None]

_POLL_S = 1.0


def run_dit(
    cases: Iterable[DitCase],
    settings: DitSettings,
    origin: Origin,
    *,
    on_row: OnRow,
    on_failure: OnFailure,
) -> None:
    """Measures cases and hands each row over as soon as it is there.

    A case that breaks its ranks (out of memory, say) is reported, and the rest goes on in new
    processes.

    Args:
        cases: Ordered as `all_cases` does.
        settings: How they are measured.
        origin: What every row says of the machine.
        on_row: Called with each result, and again where a later case of the same gang has seen a
            higher matmul rate.
        on_failure: Called with each case that failed, and why.

    Raises:
        ConfigurationError: There are fewer GPUs than a gang needs.
    """
    for members in gangs(cases):
        size, _ = members[0].gang
        check_gpus(size, settings.device)
        own_cache = replace(settings, compile_cache=f"{settings.compile_cache}/{size}")
        is_cold = not any(Path(own_cache.compile_cache).glob("*"))
        rows = _GangRows(own_cache, origin, members[0].build if is_cold else None, on_row)
        _measure(members, own_cache, rows.add, on_failure)


class _GangRows:
    """What the cases of one gang come to, told anew with each of them.

    Args:
        settings: How they are measured.
        origin: What every row says of the machine.
        cold_build: Whose compilations find an empty cache; None: nobody's.
        on_row: Called with each row.
    """

    def __init__(
        self, settings: DitSettings, origin: Origin, cold_build: object, on_row: OnRow
    ) -> None:
        self._settings = settings
        self._origin = origin
        self._cold_build = cold_build
        self._on_row = on_row
        self._measured: dict[DitCase, Measurement] = {}

    def add(self, results: Mapping[DitCase, Measurement]) -> None:
        """Tells of these and of all earlier ones, whose ratio is to the best rate of all."""
        self._measured.update(results)
        best = max(max(m.matmul_tflops, m.start_matmul_tflops) for m in self._measured.values())
        for case, measured in self._measured.items():
            row = make_row(case, measured, self._settings, self._origin, best)
            is_cold = case.compiled and case.build == self._cold_build
            on_cold = replace(row, compile_cold_s=round(measured.compile_s, 2))
            self._on_row(on_cold if is_cold else row)


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
        cfg_parallel=case.cfg_parallel,
        size=case.clip.size,
        frames=case.clip.frames,
        attention=measured.attention,
        sharding=measured.sharding,
        experts=settings.experts,
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
        together_pair_seconds=_rounded(measured.together_pair_seconds),
        gather_s=_rounded(measured.gather_s),
    )


def _measure(
    cases: list[DitCase], settings: DitSettings, on_results: OnResults, on_failure: OnFailure
) -> None:
    """All cases of one gang, in as few generations of processes as failures allow."""
    while cases:
        done, problem = _run_gang(cases, settings, on_results)
        cases = [case for case in cases if case not in done]
        if problem is not None and cases:
            on_failure(cases.pop(0), problem)


def _run_gang(
    cases: list[DitCase], settings: DitSettings, on_results: OnResults
) -> tuple[set[DitCase], str | None]:
    """One generation of processes: the cases that it measured, and what ended it early."""
    with tempfile.TemporaryDirectory(prefix="lingbot-bench-") as folder:
        work = RankWork(cases=tuple(cases), settings=settings, folder=folder)
        done: set[DitCase] = set()

        def look() -> None:
            results = read_results(Path(folder) / "results.jsonl", cases)
            if news := {case: results[case] for case in results if case not in done}:
                done.update(news)
                on_results(news)

        problem = None
        ranks = start_processes(run_rank, (work,), cases[0].gpus, join=False, start_method="spawn")
        try:
            while not ranks.join(timeout=_POLL_S):
                look()
        except ProcessException as error:
            problem = str(error).strip().rpartition("\n")[2]
        look()
        return done, problem


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 5)
