"""Shows how far a pull is: one bar of bytes, or a line now and then where no terminal listens."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from lingbot_serve.models.hub import Snapshot
from lingbot_serve.models.pull import PullView

_LINE_EVERY_S = 10.0


class PullBar(PullView):
    """One bar over all files."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._task = bars.add_task("listing", total=None)

    def waits(self) -> None:
        self._bars.update(self._task, description="another pull works on this folder; waiting")

    def begins(self, snapshot: Snapshot, total_bytes: int) -> None:
        self._bars.update(self._task, description=snapshot.repo, total=total_bytes)

    def moves(self, done_bytes: int) -> None:
        self._bars.update(self._task, completed=done_bytes)


class PullLines(PullView):
    """A line every ten seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._total_bytes = 0
        self._said_s = float("-inf")

    def waits(self) -> None:
        self._console.print("another pull works on this folder; waiting")

    def begins(self, snapshot: Snapshot, total_bytes: int) -> None:
        self._total_bytes = total_bytes
        self._console.print(f"{snapshot.repo} at {snapshot.revision}: {decimal(total_bytes)}")

    def moves(self, done_bytes: int) -> None:
        if time.monotonic() - self._said_s >= _LINE_EVERY_S:
            self._said_s = time.monotonic()
            self._console.print(f"{decimal(done_bytes)} of {decimal(self._total_bytes)}")


@contextmanager
def pull_view(console: Console) -> Iterator[PullView]:
    """The view that suits where the console writes to."""
    if not console.is_terminal:
        yield PullLines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        yield PullBar(bars)
