"""Jobs as tables for people."""

import time

from rich import box
from rich.table import Table
from rich.text import Text

from lingbot_serve.client.video import Video


def as_table(videos: list[Video]) -> Table:
    """A line for each job."""
    table = Table(box=box.SIMPLE)
    table.add_column("id", no_wrap=True)
    for name in ("state", "progress", "where", "age"):
        table.add_column(name, no_wrap=True)
    table.add_column("prompt", no_wrap=True, overflow="ellipsis", ratio=1)
    for video in videos:
        percent = f"{video.progress} %"
        age = _span(time.time() - video.created_at) if video.created_at else ""
        # A prompt is somebody's text, not markup.
        table.add_row(video.id, video.state, percent, _where(video), age, Text(video.prompt))
    return table


def as_details(video: Video) -> Table:
    """A line for each field that has a value."""
    table = Table(box=None, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in video.model_dump(mode="json").items():
        if value not in (None, "", [], {}):
            table.add_row(name, Text(str(value)))
    return table


def _where(video: Video) -> str:
    if video.is_over:
        return "" if video.error is None else video.error.code
    if video.stage is None:
        return "" if video.queue_position is None else f"place {video.queue_position}"
    steps = f" {video.step}/{video.total_steps}" if video.total_steps else ""
    return f"{video.stage}{steps}"


def _span(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
