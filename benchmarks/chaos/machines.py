"""A Ray cluster of several nodes on this machine, one of which may die."""

import logging
import os
import signal

import ray
from ray.cluster_utils import Cluster

# A small store each: clips are small here, and memory is shared with everything else.
_OBJECT_STORE_BYTES = 128 * 2**20
_CPUS = 4
# A dead node is known to be dead after three seconds instead of fifteen.
_SYSTEM = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    "health_check_failure_threshold": 3,
    # Otherwise as many workers start at once as there are logical CPUs.
    "enable_worker_prestart": False,
    "prestart_worker_first_driver": False,
}


class Machines:
    """A head, where Serve's controller and its HTTP proxy live, and nodes for everything else.

    Args:
        num_nodes: Beside the head.
    """

    def __init__(self, num_nodes: int) -> None:
        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "include_dashboard": False,
                "object_store_memory": _OBJECT_STORE_BYTES,
                "_system_config": _SYSTEM,
            },
        )
        # The driver connects while there is no other node: it must not die with one.
        ray.init(address=self._cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        self._nodes = [self._add() for _ in range(num_nodes)]

    @property
    def logs_dir(self) -> str:
        """Where the processes of all nodes write their logs."""
        return str(ray.get_runtime_context().worker.node.get_logs_dir_path())

    def kill_raylet(self, node_id: str) -> None:
        """Ends a node as a power cut does: its raylet now, and with it all its processes."""
        [node] = [node for node in self._nodes if node.node_id == node_id]
        [raylet] = node.all_processes["raylet"]
        os.kill(raylet.process.pid, signal.SIGKILL)

    def replace_dead(self) -> None:
        """Puts a new node in the place of each that died."""
        for node in self._nodes[:]:
            if node.dead_processes():
                self._nodes.remove(node)
                self._cluster.remove_node(node, allow_graceful=False)
                self._nodes.append(self._add())

    def stop(self) -> None:
        """Ends all nodes."""
        ray.shutdown()
        self._cluster.shutdown()

    def _add(self) -> "ray._private.node.Node":
        return self._cluster.add_node(num_cpus=_CPUS, object_store_memory=_OBJECT_STORE_BYTES)
