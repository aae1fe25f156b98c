"""Shows how far a video is: one bar per stage, or plain lines where no terminal listens."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from lingbot_serve.client.video import Video


class ProgressView(Protocol):
    """Takes each answer about the video and shows what changed."""

    def show(self, video: Video) -> None:
        """Brings the display up to date."""


class NoView:
    """Shows nothing."""

    def show(self, video: Video) -> None:
        pass


class StageBars:
    """A bar for each stage as it turns up; the steps of a stage move its bar."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._totals: dict[str, int] = {}
        self._queue: TaskID | None = None

    def show(self, video: Video) -> None:
        self._show_queue(video)
        if video.stage is not None:
            self._totals[video.stage] = video.total_steps or 1
        for stage, seconds in video.stage_durations.items():
            total = self._totals.get(stage, 1)
            took = f"{seconds:.2f} s"
            self._bars.update(self._task(stage), total=total, completed=total, took=took)
        if video.stage is not None and video.stage not in video.stage_durations:
            self._bars.update(
                self._task(video.stage),
                total=self._totals[video.stage],
                completed=video.step or 0,
                took=_eta(video),
            )

    def _show_queue(self, video: Video) -> None:
        if video.status == "queued":
            if self._queue is None:
                self._queue = self._bars.add_task("queued", total=None, took="")
            self._bars.update(self._queue, took=_joined(_place(video), _eta(video)))
        elif self._queue is not None:
            self._bars.remove_task(self._queue)
            self._queue = None

    def _task(self, stage: str) -> TaskID:
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=None, took="")
        return self._tasks[stage]


class StageLines:
    """A line for a new place in the queue, and when a stage begins, moves by a step, or ends."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._finished: set[str] = set()
        self._last = ""

    def show(self, video: Video) -> None:
        for stage, seconds in video.stage_durations.items():
            if stage not in self._finished:
                self._finished.add(stage)
                self._console.print(f"{stage}: finished in {seconds:.2f} s")
        if video.status == "queued" and video.queue_position is not None:
            self._say(f"queued: {_place(video)}", _eta(video))
        if video.stage is not None and video.stage not in self._finished:
            total = video.total_steps or 1
            steps = f"step {video.step or 0} of {total}" if total > 1 else "started"
            self._say(f"{video.stage}: {steps}", _eta(video))

    def _say(self, news: str, eta: str) -> None:
        """The time left changes all the time, and is no news by itself."""
        if news != self._last:
            self._last = news
            self._console.print(_joined(news, eta))


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


def no_view() -> AbstractContextManager[ProgressView]:
    """For callers who look themselves."""
    return nullcontext(NoView())


def _place(video: Video) -> str:
    return "" if video.queue_position is None else f"place {video.queue_position}"


def _eta(video: Video) -> str:
    if video.eta_seconds is None:
        return ""
    minutes, seconds = divmod(round(video.eta_seconds), 60)
    return f"about {minutes} min {seconds} s left" if minutes else f"about {seconds} s left"


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)
