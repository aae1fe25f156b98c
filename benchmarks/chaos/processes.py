"""Which process is which part of the service: what a strike needs to know."""

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil
from ray._private import state

_CONTROLLER = "SERVE_CONTROLLER_ACTOR"
_BUSY_S = 0.05


@dataclass(frozen=True, slots=True)
class ActorProcess:
    """A living actor's process.

    Args:
        pid: Its process.
        node_id: Ray's name of its node.
    """

    pid: int
    node_id: str


def ranks() -> list[ActorProcess]:
    """The processes of all gangs' ranks."""
    return [_process(actor) for actor in _alive() if actor["ActorClassName"] == "Rank"]


def replicas(deployment: str) -> list[ActorProcess]:
    """The replicas of a deployment, whatever its application."""
    return [_process(actor) for actor in _alive() if f"#{deployment}#" in actor["Name"]]


def controller() -> ActorProcess:
    """Serve's controller."""
    [found] = [actor for actor in _alive() if actor["Name"] == _CONTROLLER]
    return _process(found)


def busiest(processes: Sequence[ActorProcess]) -> ActorProcess:
    """The one that computes now."""

    def spent_s() -> list[float]:
        return [sum(psutil.Process(each.pid).cpu_times()[:2]) for each in processes]

    before = spent_s()
    time.sleep(_BUSY_S)
    used = [after - earlier for after, earlier in zip(spent_s(), before, strict=True)]
    return processes[used.index(max(used))]


def kill(processes: Sequence[ActorProcess] | Sequence[psutil.Process]) -> None:
    """Ends processes at once, with nothing said to anybody."""
    for process in processes:
        with suppress(ProcessLookupError):  # its neighbour's death may have taken it along
            os.kill(process.pid, signal.SIGKILL)


def _alive() -> list[dict[str, Any]]:
    # The public list of actors leads through the dashboard's server, which does not run here.
    found = state.actors().values()
    return [each for each in found if each["State"] == "ALIVE" and psutil.pid_exists(each["Pid"])]


def _process(actor: dict[str, Any]) -> ActorProcess:
    return ActorProcess(actor["Pid"], actor["Address"]["NodeID"])
