"""Shows how far a video is: one bar per stage, or plain lines where no terminal listens."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from lingbot_serve.client import Video


class ProgressView(Protocol):
    """Takes each poll's answer and shows what changed."""

    def show(self, video: Video) -> None:
        """Brings the display up to date."""


class StageBars:
    """A bar for each stage as it turns up; the steps of a stage move its bar."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._totals: dict[str, int] = {}

    def show(self, video: Video) -> None:
        if video.stage is not None:
            self._totals[video.stage] = video.total_steps or 1
        for stage, seconds in video.stage_durations.items():
            total = self._totals.get(stage, 1)
            took = f"{seconds:.2f} s"
            self._bars.update(self._task(stage), total=total, completed=total, took=took)
        if video.stage is not None and video.stage not in video.stage_durations:
            total = self._totals[video.stage]
            self._bars.update(self._task(video.stage), total=total, completed=video.step or 0)

    def _task(self, stage: str) -> TaskID:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=None, took="")
        return self._tasks[stage]


class StageLines:
    """A line when a stage begins, moves by a step, or ends."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._finished: set[str] = set()
        self._last = ""

    def show(self, video: Video) -> None:
        for stage, seconds in video.stage_durations.items():
            if stage not in self._finished:
                self._finished.add(stage)
                self._console.print(f"{stage}: finished in {seconds:.2f} s")
        if video.stage is not None and video.stage not in self._finished:
            total = video.total_steps or 1
            steps = f"step {video.step or 0} of {total}" if total > 1 else "started"
            line = f"{video.stage}: {steps}"
            if line != self._last:
                self._last = line
                self._console.print(line)


@contextmanager
def progress_view(console: Console) -> Iterator[ProgressView]:
    """The view that suits where the console writes to."""
    if not console.is_terminal:
        yield StageLines(console)
        return
    columns = (
        TextColumn("{task.description:>13}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[took]}"),
    )
    with Progress(*columns, console=console) as bars:
        yield StageBars(bars)
