"""What the shell sees of a command that failed; shared by every command."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import typer

from lingbot_serve.client.video import CANCELLED
from lingbot_serve.errors import ApiError, ServerUnreachableError, VideoFailedError
from model.errors import CheckpointError, ConfigurationError, InvalidInputError, LingBotError


class ExitCode(IntEnum):
    """What the shell sees."""

    DONE = 0
    FAILED = 1
    BAD_INPUT = 2
    UNREACHABLE = 3
    CANCELLED = 4
    INTERRUPTED = 130


EPILOG = (
    "Exit codes: 0 done, 1 the clip failed, 2 bad input or settings, "
    "3 no answer from the server, 4 the clip was cancelled, "
    "130 interrupted: a job on a server goes on."
)


@contextmanager
def errors_as_exit_codes() -> Iterator[None]:
    """Prints an error of this project as one line; any other is a fault and keeps its trace."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except LingBotError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(_exit_code(error)) from None


def _exit_code(error: LingBotError) -> ExitCode:
    if isinstance(error, ServerUnreachableError):
        return ExitCode.UNREACHABLE
    if isinstance(error, VideoFailedError) and error.code == CANCELLED:
        return ExitCode.CANCELLED
    if isinstance(error, ApiError) and error.is_callers_fault:
        return ExitCode.BAD_INPUT
    if isinstance(error, (InvalidInputError, ConfigurationError, CheckpointError)):
        return ExitCode.BAD_INPUT
    return ExitCode.FAILED
