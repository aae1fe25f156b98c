"""Rows of benchmarks as tables for people."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.table import Table

from lingbot_serve.bench.markdown import number, percent
from lingbot_serve.bench.records import DitRow, E2eRow, LoadRow, VaeRow

Cells = Sequence[str]


def dit_table(rows: Iterable[DitRow]) -> Table:
    """Forwards of the DiT."""
    headings = ("GPUs", "halves", "size", "frames", "attention", "weights", "compile", "s")
    more = ("step s", "together s", "TFLOP/s", "ratio", "peak GiB", "waits", "compile s")
    table = _table("bench dit", (*headings, *more))
    for row in rows:
        table.add_row(
            str(row.gpus),
            "yes" if row.cfg_parallel else "no",
            row.size,
            str(row.frames),
            row.attention,
            row.sharding,
            "yes" if row.compile else "no",
            f"{row.seconds:.3f}",
            *(number(row.pair_seconds, 3), number(row.together_pair_seconds, 3)),
            f"{row.tflops:.1f}",
            f"{row.ratio:.3f}",
            f"{row.peak_gib:.1f}",
            percent(row.exposed_communication),
            number(row.compile_cold_s, 1),
        )
    return table


def vae_table(rows: Iterable[VaeRow]) -> Table:
    """Encoding and decoding."""
    headings = ("", "size", "frames", "dtype", "compile", "s", "dB", "peak GiB", "first s")
    table = _table("bench vae", headings)
    for row in rows:
        table.add_row(
            row.direction,
            row.size,
            str(row.frames),
            row.dtype,
            "yes" if row.compile else "no",
            f"{row.seconds:.3f}",
            number(row.psnr_db, 1),
            f"{row.peak_gib:.1f}",
            f"{row.first_s:.1f}",
        )
    return table


def load_table(rows: Iterable[LoadRow]) -> Table:
    """Loading."""
    headings = (
        "GPUs",
        "weights",
        "GB",
        "s",
        "raw GB/s",
        "ratio",
        "cached",
        "slice GiB",
        "host GiB",
    )
    table = _table("bench load", headings)
    for row in rows:
        table.add_row(
            str(row.gpus),
            row.sharding,
            f"{row.bytes / 1e9:.2f}",
            f"{row.seconds:.2f}",
            f"{row.raw_gb_per_s:.2f}",
            f"{row.ratio:.3f}",
            percent(row.cached_before),
            f"{row.slice_gib:.2f}",
            f"{row.host_gib:.2f}",
        )
    return table


def e2e_table(rows: Iterable[E2eRow]) -> Table:
    """Whole clips."""
    headings = ("GPUs", "size", "frames", "steps", "wall s", "forward s", "encode s", "decode s")
    table = _table("bench e2e", (*headings, "ratio", "ready s", "again s"))
    for row in rows:
        table.add_row(
            str(row.gpus),
            row.size,
            str(row.frames),
            str(row.steps),
            f"{row.wall_s:.2f}",
            f"{row.forward_s:.4f}",
            f"{row.encode_s:.3f}",
            f"{row.decode_s:.3f}",
            f"{row.ratio:.4f}",
            f"{row.ready_s:.1f}",
            number(row.second_ready_s, 1),
        )
    return table


def _table(title: str, headings: Cells) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
