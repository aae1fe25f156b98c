"""A gang on one of two labelled nodes, whose node is emptied while it works; prints what happened.

A process of its own: it needs a Ray cluster of several nodes. Its argument empties a node.
"""

import asyncio
import json
import shlex
import subprocess
import sys
from collections.abc import AsyncGenerator

import ray
from ray import serve
from ray.cluster_utils import Cluster

from cluster.config import GangConfig
from cluster.gang import Gang
from cluster.placement import replica_bundles
from tests.support.programs import Counter, Work

GANG = GangConfig(size=2, cpus_per_rank=0.5, controller_cpus=0.5)
POOL = {"lingbot-pool": "gangs"}
STEPS, STEP_S = 16, 0.5


class Stage:
    """Owns a gang as the denoiser stage does, and says where it lives."""

    async def __init__(self) -> None:  # type: ignore[misc]
        self._gang = await Gang.start(GANG, Counter)

    async def node(self) -> str:
        return str(ray.get_runtime_context().get_node_id())

    async def work(self, job_id: str, num_steps: int) -> AsyncGenerator[str, None]:
        yield await self.node()
        async for _ in self._gang.run(job_id, Work(num_steps, STEP_S)):
            yield "step"


async def main(empty: str) -> None:
    """Brings the cluster up, drains the node of the running job, and reports as JSON."""
    cluster = Cluster()
    cluster.add_node(num_cpus=0, include_dashboard=False)
    nodes = [cluster.add_node(num_cpus=2, labels=labels).node_id for labels in ({}, POOL, POOL)]
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    deployment = serve.deployment(
        Stage,
        max_ongoing_requests=2,
        graceful_shutdown_timeout_s=60,
        placement_group_bundles=replica_bundles(GANG),
        placement_group_strategy=GANG.placement,
        placement_group_bundle_label_selector=[POOL],
        ray_actor_options={"num_cpus": GANG.controller_cpus},
    )
    handle = serve.run(deployment.bind(), route_prefix=None)
    job = handle.options(stream=True).work.remote("job", STEPS)
    items = [await anext(job)]
    node = items[0]
    arguments = [*shlex.split(empty), "--address", cluster.address, "--node-id", node]
    subprocess.run(arguments, check=True, timeout=60)
    moved_to = asyncio.create_task(_other_node(handle, node))
    items += [item async for item in job]
    report = {
        "labelled": node in nodes[1:],
        "steps": items.count("step"),
        "moved_to": (await asyncio.wait_for(moved_to, 60)) in set(nodes[1:]) - {node},
    }
    print(json.dumps(report))
    serve.shutdown()
    ray.shutdown()
    cluster.shutdown()


async def _other_node(handle: serve.handle.DeploymentHandle, node: str) -> str:
    while True:
        found = await handle.node.remote()
        if found != node:
            return str(found)
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
