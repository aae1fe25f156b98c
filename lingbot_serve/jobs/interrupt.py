"""Ctrl-C on a job that runs elsewhere: stop the job, or only stop looking."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from lingbot_serve.client.requests import DEFAULT_BASE_URL
from lingbot_serve.client.sync import Job
from lingbot_serve.exit_codes import ExitCode

_QUESTION = "[c]ancel the job, or [d]etach and let it run?"


@contextmanager
def cancel_or_detach(job: Job, console: Console, *, url: str | None) -> Iterator[None]:
    """Asks what an interrupt means; where nobody can answer, the job goes on.

    Args:
        job: That the block waits for.
        console: Where to say what became of it.
        url: Of its server, for the command that follows it; None where the environment names it.

    Raises:
        typer.Exit: After an interrupt: 4 if the job was cancelled, 130 if it goes on.
    """
    try:
        yield
    except KeyboardInterrupt:
        if job.video.is_over:  # only a download is interrupted
            raise
        if _wants_cancel():
            job.cancel()
            console.print(f"{job.id} is cancelled")
            raise typer.Exit(ExitCode.CANCELLED) from None
        server = f" --url {url}" if url and url != DEFAULT_BASE_URL else ""
        console.print(f"{job.id} goes on; to follow it: lingbot-serve jobs watch {job.id}{server}")
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def _wants_cancel() -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    try:
        reply = typer.prompt(f"\n{_QUESTION}", default="d", err=True)
    except typer.Abort:  # a second Ctrl-C, or the terminal is gone
        return False
    return str(reply).strip().lower().startswith("c")
