"""Ends rank processes for certain, whatever state they are in."""

import asyncio
import os
import signal
import time
from collections.abc import Iterable

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

_POLL_S = 0.02


def kill_processes(pids: Iterable[int], grace_s: float, timeout_s: float) -> list[int]:
    """Sends SIGKILL to processes of this machine and waits until they are gone.

    Ray's own kill is a message to the process, which a stopped process never reads; SIGKILL
    needs no cooperation.

    Args:
        pids: The processes.
        grace_s: Seconds they have to leave of themselves, having been told to.
        timeout_s: Seconds to wait for the kernel.

    Returns:
        Those still there at the end (inside the kernel, for instance in a driver).
    """
    left = _wait_gone(list(pids), grace_s)
    left = [pid for pid in left if _signal(pid, signal.SIGKILL)]
    return _wait_gone(left, timeout_s)


async def kill_on_node(
    node_id: str, pids: list[int], grace_s: float, timeout_s: float
) -> list[int]:
    """Does the same on any node of the cluster; elsewhere through a small Ray task there.

    Returns:
        Those still there at the end, or that could not be reached.
    """
    if node_id == ray.get_runtime_context().get_node_id():
        return await asyncio.to_thread(kill_processes, pids, grace_s, timeout_s)
    there = NodeAffinitySchedulingStrategy(node_id, soft=False)
    task = ray.remote(num_cpus=0, max_retries=0)(kill_processes)
    ref = task.options(scheduling_strategy=there).remote(pids, grace_s, timeout_s)
    try:
        # The task may have to start a worker first; a node that is gone took its ranks along.
        left: list[int] = await asyncio.wait_for(ref, grace_s + 2 * timeout_s)
    except asyncio.TimeoutError:
        return pids
    except ray.exceptions.RayError:
        return []
    return left


def _wait_gone(pids: list[int], timeout_s: float) -> list[int]:
    """Those left after a while."""
    deadline_s = time.monotonic() + timeout_s
    while pids and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
        pids = [pid for pid in pids if _signal(pid, 0)]
    return pids


def _signal(pid: int, number: int) -> bool:
    """Whether the process was there to be signalled."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
