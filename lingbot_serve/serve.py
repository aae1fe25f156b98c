"""Runs the whole service in the foreground and takes it down again."""

import io
import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from types import FrameType
from typing import TYPE_CHECKING

from rich.console import Console

from deployments.config import ServeConfig
from deployments.keys.settings import AuthMode

if TYPE_CHECKING:
    from deployments.launch import LocalServer


_LOOK_S = 0.5


@contextmanager
def running_cluster(
    config: ServeConfig,
    console: Console,
    *,
    drain_timeout_s: float,
    on_wait: Callable[[list[str]], None] = lambda parts: None,
) -> Iterator["LocalServer"]:
    """Brings up both applications on this machine.

    Inside, SIGTERM does what Ctrl-C does: it raises KeyboardInterrupt. Leaving drains the
    applications and ends every process.

    Args:
        config: The whole service.
        console: Where the start and the end are announced.
        drain_timeout_s: Clips that run longer than this after the end go back into the queue.
        on_wait: Called about five times a second with the parts that are not ready yet.

    Raises:
        LingBotError: Something cannot start; nothing is left running.
    """
    # Imported here because Ray takes seconds to import and `--help` needs none of it.
    from deployments.launch import start_local

    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    console.print(f"starting a cluster for {config.pipeline.checkpoint}")
    with console.status("starting") as status:

        def show(reasons: list[str]) -> None:
            parts = sorted(reason.partition(":")[0] for reason in reasons)
            status.update(f"starting: waiting for {', '.join(parts)}")
            on_wait(parts)

        server = start_local(config.read_by(terminal=console.is_terminal), on_wait=show)
    console.print(f"logs: {server.logs_dir}", soft_wrap=True)
    try:
        with _sigterm_interrupts():
            yield server
    finally:
        console.print("stopping the cluster")
        # Ray reports the calls that a shutdown cuts off; stdout belongs to our results.
        with redirect_stdout(io.StringIO()):
            server.stop(drain_timeout_s=drain_timeout_s)


def serve_until_stopped(config: ServeConfig, console: Console) -> None:
    """Serves until Ctrl-C or SIGTERM, then finishes what runs; a second Ctrl-C does not wait.

    Raises:
        LingBotError: Something cannot start, or clients cannot reach the service any more.
    """
    longest_s = config.pipeline.longest_clip_s
    with running_cluster(config, console, drain_timeout_s=longest_s) as server:
        print(f"serving on {server.url}", flush=True)
        console.print(_who_may_call(config))
        try:
            while True:
                server.check()
                time.sleep(_LOOK_S)
        except KeyboardInterrupt:
            console.print("finishing the running clips; Ctrl-C again leaves them to the next start")


def _who_may_call(config: ServeConfig) -> str:
    match config.gateway.auth.mode:
        case AuthMode.REQUIRED:
            return "calls need an API key: lingbot-serve keys create"
        case AuthMode.OFF:
            return f"calls need no API key: whoever reaches {config.http.host} may make clips"
        case AuthMode.AUTO:
            return "calls need no API key, and only this machine can call"


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    def interrupt(_signum: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    # Only once the cluster runs: ray.init installs a handler of its own.
    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
