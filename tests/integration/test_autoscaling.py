"""Replicas that really come and go: the real gateway, pipeline and policy over sleeping stages."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema
from ray.util import list_named_actors

from deployments.app import build_gateway
from deployments.config import ServeConfig
from deployments.gateway_config import GatewayConfig
from deployments.names import PIPELINE
from deployments.serve_config import serve_config
from tests.support.server import PATIENCE_S, Server, body, wait_for, wait_for_step
from tests.support.sleeping import Naps

APPLICATION, GATEWAY = "sleeping", "sleeping_gateway"
SCALING = {
    "min_replicas": 0,
    "max_replicas": 2,
    "drain_target_s": 2.0,
    "cold_start_s": 2.0,
    "patience_s": 2.0,
    "idle_to_zero_s": 600.0,
    "interval_s": 0.0,
    "report_interval_s": 0.5,
}


def deploy_sleeping(root: Path, **scaling: float) -> None:
    """The application from the file that a cluster would get, but with stages that sleep."""
    follower = {"min_replicas": 1, "max_replicas": 2, "clip_s": 0.2, "patience_s": 1.0}
    config = ServeConfig.model_validate(
        {
            "pipeline": {
                "checkpoint": root,
                "denoiser": {"gang": {"size": 1}, "scaling": {**SCALING, **scaling}},
                "vae_decoder": {"scaling": follower},
            }
        }
    )
    application: dict[str, Any] = serve_config(config)["applications"][0]
    assert application["name"] == PIPELINE
    application |= {
        "name": APPLICATION,
        "import_path": "tests.support.sleeping:build_sleeping",
        "args": Naps(clip_s=1.0, clips_per_gang=1).model_dump(),
    }
    deploy_applications(application)


def deploy_applications(*applications: dict[str, Any]) -> None:
    """Leaves these of all that were ever deployed from a file."""
    client = _get_global_client()
    assert client is not None
    client.deploy_apps(ServeDeploySchema.model_validate({"applications": applications}))


@pytest.fixture(scope="module")
def sleeping(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A gateway of its own in front of the sleeping application."""
    root = tmp_path_factory.mktemp("sleeping")
    deploy_sleeping(root)
    gateway = GatewayConfig(data_dir=root, preset="cpu-small", pipeline=APPLICATION)
    serve.run(build_gateway(gateway), name=GATEWAY, route_prefix="/sleeping")
    with httpx.Client(base_url=f"{server.url}/sleeping", timeout=60) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        yield client
    serve.delete(GATEWAY)
    deploy_applications()  # `serve.delete` holds until the controller restarts and reads its file


def wait_until(condition: Callable[[], bool], *, timeout_s: float = PATIENCE_S) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, serve.status().applications[APPLICATION]
        time.sleep(0.1)


def replicas(deployment: str = "denoiser") -> int:
    """Replicas that take requests."""
    stages = serve.status().applications[APPLICATION].deployments
    states = stages[deployment].replica_states
    return sum(number for state, number in states.items() if state == "RUNNING")


def actors() -> set[str]:
    """Names of the application's replicas; a restarted one has another."""
    names = (entry["name"] for entry in list_named_actors(all_namespaces=True))
    return {name for name in names if name.startswith(f"SERVE_REPLICA::{APPLICATION}#")}


def create(client: httpx.Client, **fields: object) -> str:
    video = client.post("/v1/videos", json=body(num_inference_steps=4, **fields))
    video.raise_for_status()
    video_id: str = video.json()["id"]
    return video_id


def test_gangs_come_with_the_work_and_go_after_it(sleeping: httpx.Client) -> None:
    assert replicas() == 0
    assert sleeping.get("/readyz").status_code == 200
    clips = [create(sleeping) for _ in range(12)]

    def two_gangs() -> bool:
        """Gives the first a second's work more: the other may take long to start."""
        time.sleep(1)
        clips.append(create(sleeping))
        return replicas() == 2

    wait_until(two_gangs)
    for clip in clips:
        assert wait_for(sleeping, clip)["status"] == "completed"
    wait_until(lambda: replicas() == 1)
    # A clip takes a gang a second, which was not known before the first, and a decoder 0.2.
    wait_until(lambda: replicas("vae_decoder") == 1)


def test_a_changed_policy_leaves_running_jobs_and_replicas_alone(
    sleeping: httpx.Client, tmp_path: Path
) -> None:
    running = create(sleeping, deadline_s=30)
    wait_for_step(sleeping, running)
    before = actors()
    deploy_sleeping(tmp_path, min_replicas=1, drain_target_s=1.0, idle_to_zero_s=0.0, patience_s=0)
    video = wait_for(sleeping, running)
    assert video["status"] == "completed"
    assert video["due_at"] == pytest.approx(video["created_at"] + 30, abs=2)
    assert before <= actors()
    # The new bounds and knobs hold: the last gang stays, and a clip is one gang's work.
    time.sleep(1.5)
    assert replicas() == 1
