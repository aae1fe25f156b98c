"""Looks at processes that may end while they are looked at."""

from collections.abc import Iterable
from contextlib import suppress

import psutil


def command_of(process: psutil.Process) -> str:
    """Its command line, empty for one that has ended."""
    with suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""


def living(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended, whether or not their parent has asked how they did."""
    return [process for process in processes if _is_alive(process)]


def listening_ports(process: psutil.Process) -> set[int]:
    """Where it listens: nowhere, once it has ended."""
    with suppress(psutil.NoSuchProcess):
        sockets = process.net_connections("tcp")
        return {s.laddr.port for s in sockets if s.status == psutil.CONN_LISTEN}
    return set()


def _is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False
