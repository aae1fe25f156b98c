"""The manifest carries the same configuration as the shipped file, in a form that Serve takes."""

from pathlib import Path

import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from deployments.config import GatewayConfig, PipelineConfig, ServeConfig
from deployments.serve_config import serve_config

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def rendered() -> dict:
    return serve_config(ServeConfig.from_yaml(ROOT / "examples/h200x8.yaml"))


def test_manifest_holds_what_render_prints(rendered: dict) -> None:
    manifest = yaml.safe_load((ROOT / "k8s/base/rayservice.yaml").read_text())
    assert yaml.safe_load(manifest["spec"]["serveConfigV2"]) == rendered


def test_serve_and_the_builders_take_it(rendered: dict) -> None:
    applications = {a.name: a for a in ServeDeploySchema.model_validate(rendered).applications}
    file = ServeConfig.from_yaml(ROOT / "examples/h200x8.yaml")
    assert PipelineConfig.model_validate(applications["pipeline"].args) == file.pipeline
    assert GatewayConfig.model_validate(applications["gateway"].args) == file.gateway


def test_a_worker_node_has_what_the_applications_reserve() -> None:
    manifest = yaml.safe_load((ROOT / "k8s/base/rayservice.yaml").read_text())
    [group] = manifest["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    [container] = group["template"]["spec"]["containers"]
    file = ServeConfig.from_yaml(ROOT / "examples/h200x8.yaml")
    assert int(container["resources"]["limits"]["cpu"]) >= file.logical_cpus
    gang = file.pipeline.denoiser.gang
    assert int(container["resources"]["limits"]["nvidia.com/gpu"]) == gang.size
    # A pod is not killed before Serve has let its clip end.
    grace_s = group["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace_s > file.pipeline.longest_clip_s
