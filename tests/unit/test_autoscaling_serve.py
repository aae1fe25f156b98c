"""The policies through Serve's own machinery: its pickling, its contexts, its wrapper."""

import logging
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray.serve._private.autoscaling_state import _resolve_policy_callable
from ray.serve._private.common import DeploymentID, ReplicaID, TimeStampedValue
from ray.serve._private.deploy_utils import get_app_code_version
from ray.serve.autoscaling_policy import (
    _apply_app_level_autoscaling_config,
    _apply_delay_logic,
    _apply_scaling_factors,
    _core_replica_queue_length_policy,
    _get_cold_start_scale_up_replicas,
)
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy
from ray.serve.schema import ServeApplicationSchema, ServeDeploySchema

from autoscaling.followers import FollowerSettings
from autoscaling.policy import Cause, Due, GangSettings, Signal
from autoscaling.report import WorkReport
from autoscaling.simulator.controllers import (
    Delays,
    DelayState,
    Observation,
    RequestsController,
    after_serve,
)
from deployments.config import ServeConfig
from deployments.serve_config import serve_config
from monitoring.scaling import AUTOSCALING_DECISIONS

GANGS = GangSettings(gpus_per_gang=8, drain_target_s=100, cold_start_s=50, deadline_share=1.0)
FOLLOWERS = {"vae_decoder": FollowerSettings(clip_s=10.0)}
REPORT = WorkReport(
    held_clips=1,
    queued_clips=2,
    work_gpu_s=2000.0,
    clip_gpu_s=800.0,
    due=(),
    gangs=GANGS,
    followers=FOLLOWERS,
)
POLICY = "deployments.stage_policy:StagePolicy"


def context(
    name: str = "denoiser",
    *,
    running: int = 1,
    target: int | None = None,
    queued: float = 0.0,
    requests: float = 0.0,
    metrics: dict[str, float] | None = None,
    state: dict[str, object] | None = None,
    now_s: float = 1000.0,
    **config: object,
) -> AutoscalingContext:
    """A real context of Serve; each replica reports the same metrics, an older point before."""
    deployment = DeploymentID(name=name, app_name="pipeline")
    replicas = [ReplicaID(str(number), deployment) for number in range(running)]
    raw = {
        metric: {
            replica: [TimeStampedValue(now_s - 10, 1e9), TimeStampedValue(now_s, value)]
            for replica in replicas
        }
        for metric, value in (metrics or {}).items()
    }
    settings = AutoscalingConfig(
        **({"min_replicas": 0, "max_replicas": 20, "upscale_delay_s": 0} | config)
    )
    return AutoscalingContext(
        deployment_id=deployment,
        deployment_name=name,
        app_name="pipeline",
        current_num_replicas=running,
        target_num_replicas=running if target is None else target,
        running_replicas=replicas,
        total_num_requests=requests,
        total_queued_requests=lambda: queued,
        aggregated_metrics=None,
        raw_metrics=lambda: raw,
        capacity_adjusted_min_replicas=settings.min_replicas,
        capacity_adjusted_max_replicas=settings.max_replicas,
        policy_state=state or {},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=now_s,
        config=settings,
    )


Contexts = dict[DeploymentID, AutoscalingContext]


def contexts(report: WorkReport | None = REPORT, **leader: Any) -> Contexts:
    """The denoiser, its decoder and the pipeline that reports for them."""
    told = None if report is None else report.as_stats()
    each = (
        context(**leader),
        context("vae_decoder", running=1),
        context("pipeline", running=1, metrics=told),
    )
    return {one.deployment_id: one for one in each}


def key(name: str) -> DeploymentID:
    return DeploymentID(name=name, app_name="pipeline")


def as_controller_has_it() -> Any:
    """The policy after the way from the builder's to the controller's process, and wrapped."""
    sent = AutoscalingPolicy(policy_function=POLICY)
    policy = AutoscalingPolicy.from_serialized_policy_def(
        {"policy_function": sent.policy_function}, sent.get_serialized_policy_def()
    )
    return _apply_app_level_autoscaling_config(_resolve_policy_callable(policy))


def test_stages_through_serve():
    decide = as_controller_has_it()
    replicas, states = decide(contexts())
    # Two gangs take a clip in 100 s each, and a decoder works 10 s for it, busy for 70 %.
    assert replicas == {key("denoiser"): 2, key("vae_decoder"): 1}
    assert states[key("denoiser")]["reason"].startswith(
        "1 -> 2: 2 drain it in 100 s; 2000 GPU-s of work in 3 clips"
    )
    assert states[key("vae_decoder")]["reason"].startswith("2 gangs take 72.0 clips an hour")
    again, _ = decide(contexts(target=2, state=states[key("denoiser")]))
    assert again[key("denoiser")] == 2


def test_followers_follow_many_gangs():
    replicas, _ = as_controller_has_it()(contexts(running=10))
    assert replicas[key("vae_decoder")] == 2


def test_zero_gangs_wake_as_many_as_the_queue_needs():
    queue = replace(REPORT, held_clips=0, queued_clips=9, work_gpu_s=2000.0)
    replicas, _ = as_controller_has_it()(contexts(queue, running=0))
    assert replicas[key("denoiser")] == 3


def test_without_a_report_nothing_changes():
    assert as_controller_has_it()(contexts(None, running=3))[0] == {}


def test_a_report_of_a_replica_that_is_gone_changes_nothing():
    seen = contexts(running=3)
    for each in seen.values():
        each.current_time = 2000.0
    assert as_controller_has_it()(seen)[0] == {}


def test_numbers_of_older_reports_do_not_mix_in():
    pressing = Due(start_in_s=60.0, ahead_gpu_s=80_000.0)
    seen = contexts(replace(REPORT, due=(pressing,)))
    reporter = seen[key("pipeline")]
    newest = reporter.raw_metrics
    for name, by_replica in newest.items():
        for series in by_replica.values():
            if name.startswith("due/"):
                series.pop()  # only the older value is left
    replicas, _ = as_controller_has_it()(seen)
    assert replicas[key("denoiser")] == 2


def test_pickled_policy_needs_none_of_our_packages(tmp_path: Path):
    sent = AutoscalingPolicy(policy_function=POLICY)
    (tmp_path / "policy.pickle").write_bytes(sent.get_serialized_policy_def())
    code = f"""
import importlib.util, pickle, types
assert importlib.util.find_spec("autoscaling") is None
policy = pickle.load(open("policy.pickle", "rb"))()
def sample(value):
    return {{"replica": [types.SimpleNamespace(timestamp=1.0, value=value)]}}
def context(name, metrics):
    return types.SimpleNamespace(
        deployment_name=name, current_num_replicas=1, target_num_replicas=1, current_time=2.0,
        capacity_adjusted_min_replicas=0, capacity_adjusted_max_replicas=9, policy_state={{}},
        raw_metrics={{name: sample(value) for name, value in metrics.items()}},
    )
print(policy({{
    "a": context("denoiser", {{}}),
    "b": context("vae_decoder", {{}}),
    "c": context("pipeline", {REPORT.as_stats()!r}),
}}))
"""
    # None in sys.modules makes an import fail, wherever the packages are installed.
    ours = ["model", "monitoring", "cluster", "deployments", "autoscaling", "lingbot_serve"]
    ray_folder = str(Path(sys.modules["ray"].__file__ or "").parents[1])
    hidden = (
        f"import sys; sys.path[:0] = [{ray_folder!r}]; sys.modules.update(dict.fromkeys({ours}))"
    )
    code = f"{hidden}; import ray.cloudpickle{code}"
    run = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert "1 -> 2" in run.stdout


def test_a_change_is_logged_once(caplog: pytest.LogCaptureFixture):
    decide = as_controller_has_it()
    with caplog.at_level(logging.INFO, logger="ray.serve"):
        logging.getLogger("ray.serve").addHandler(caplog.handler)
        for _ in range(3):
            decide(contexts())
        logging.getLogger("ray.serve").removeHandler(caplog.handler)
    lines = {record.getMessage() for record in caplog.records if "denoiser" in record.getMessage()}
    assert len(lines) == 1
    assert next(iter(lines)).startswith("denoiser: 1 -> 2: ")


def test_every_cause_is_a_value_of_the_metric_s_label():
    [reasons] = [label for label in AUTOSCALING_DECISIONS.labels if label.name == "reason"]
    assert set(reasons.values) == {*(cause.value for cause in Cause), "follow"}


def rendered(**scaling: object) -> ServeApplicationSchema:
    config = ServeConfig.model_validate(
        {
            "pipeline": {
                "checkpoint": "/a",
                "denoiser": {"scaling": {"max_replicas": 4, **scaling}},
                "vae_decoder": {"scaling": {"max_replicas": 2}},
            }
        }
    )
    return ServeDeploySchema.model_validate(serve_config(config)).applications[0]


def test_knobs_and_bounds_are_no_part_of_the_application_s_version():
    before, after = rendered(), rendered(max_replicas=8, drain_target_s=5.0, patience_s=1.0)
    assert before != after
    assert get_app_code_version(before) == get_app_code_version(after)
    assert "scaling" not in before.args["denoiser"]


def test_a_fixed_number_of_gangs_needs_no_policy():
    config = ServeConfig.model_validate({"pipeline": {"checkpoint": "/a"}})
    [pipeline, _] = serve_config(config)["applications"]
    assert "autoscaling_policy" not in pipeline


def rays_answer(seen: AutoscalingContext, delay_state: dict[str, object]) -> int:
    """Ray's default policy as its wrapper calls it, but at the context's time."""
    woken = _get_cold_start_scale_up_replicas(seen)
    if woken is not None:
        return woken
    desired, _ = _core_replica_queue_length_policy(seen)
    scaled = _apply_scaling_factors(desired, seen.current_num_replicas, seen.config)
    if seen.current_num_replicas == 0 and scaled > 0:
        return scaled
    now_s = seen.current_time
    target = seen.target_num_replicas
    return _apply_delay_logic(max(0, scaled), target, seen.config, delay_state, _now=now_s)[0]


@pytest.mark.parametrize("seed", range(20))
def test_default_policy_is_serves(seed: int):
    """Our rendering and Ray's own code, side by side over a random history."""
    chance = random.Random(seed)
    delays = Delays(chance.choice([0.0, 30.0]), chance.choice([0.0, 40.0]))
    ours = RequestsController(1.5, delays)
    target, delay_state = 1, {}
    for now_s in range(1000, 3000, 10):
        running = max(0, min(target, chance.choice([0, target, target, target - 1])))
        requests = chance.choice([0.0, 0.0, 3.0, chance.uniform(0, 25)])
        seen = context(
            running=running,
            target=target,
            requests=requests,
            now_s=float(now_s),
            target_ongoing_requests=1.5,
            upscale_delay_s=delays.upscale_s,
            downscale_delay_s=delays.downscale_s,
        )
        wanted = max(0, min(20, rays_answer(seen, delay_state)))
        signal = Signal(float(now_s), running, target, 0, 0.0, 0, 0, 20)
        assert ours.target(Observation(signal, requests)) == wanted
        target = wanted


def test_zero_is_reached_from_one_only():
    config = AutoscalingConfig(min_replicas=0, max_replicas=9, downscale_delay_s=0)
    theirs, _ = _apply_delay_logic(0, 5, config, {}, _now=0.0)
    signal = Signal(0.0, 5, 5, 0, 0.0, 0, 0, 9)
    ours, _ = after_serve(0, signal, Delays(0, 0), DelayState())
    assert theirs == ours == 1
