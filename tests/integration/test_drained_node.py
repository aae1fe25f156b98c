"""What a pod does before it goes, done to a node of a real Ray: the clip on it ends."""

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

from tests.integration.conftest import ENVIRONMENT, ROOT
from tests.support.server import PATIENCE_S


def pre_stop_command() -> str:
    """The part of the manifest's hook that empties the node; the rest waits for it."""
    service = yaml.safe_load((ROOT / "k8s/base/rayservice.yaml").read_text())
    [group] = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    [container] = group["template"]["spec"]["containers"]
    *_, script = container["lifecycle"]["preStop"]["exec"]["command"]
    command, _, wait = str(script).partition(";")
    assert "ray::ServeReplica" in wait
    return command


def test_a_pod_that_goes_lets_its_clip_end() -> None:
    environment = {**os.environ, **ENVIRONMENT}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.drained_node", pre_stop_command()],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # Ray prints, too.
    [report] = [line for line in done.stdout.splitlines() if line.startswith("{")]
    assert json.loads(report) == {"labelled": True, "steps": 16, "moved_to": True}
