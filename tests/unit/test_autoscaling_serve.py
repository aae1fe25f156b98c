"""The policies through Serve's own machinery: its pickling, its contexts, its wrapper."""

import logging
import random
import subprocess
import sys
from pathlib import Path

import pytest
from ray.serve._private.autoscaling_state import _resolve_policy_callable
from ray.serve._private.common import DeploymentID, ReplicaID, TimeStampedValue
from ray.serve.autoscaling_policy import (
    _apply_app_level_autoscaling_config,
    _apply_autoscaling_config,
    _apply_delay_logic,
    _apply_scaling_factors,
    _core_replica_queue_length_policy,
    _get_cold_start_scale_up_replicas,
)
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from autoscaling.policy import BUSY, CLIP_GPU_S, REMAINING_GPU_S, Signal
from autoscaling.simulator.controllers import (
    Delays,
    DelayState,
    Observation,
    RequestsController,
    after_serve,
)

GANGS = {"gpus_per_gang": 8, "drain_target_s": 100, "cold_start_s": 50}
FOLLOWERS = {"vae_decoder": {"clip_s": 10.0}}


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


BUSY_GANG = {REMAINING_GPU_S: 400.0, BUSY: 1.0, CLIP_GPU_S: 800.0}


def as_controller_has_it(function: str, kwargs: dict[str, object]) -> AutoscalingPolicy:
    """A policy after the way from the application's to the controller's process."""
    sent = AutoscalingPolicy(policy_function=function, policy_kwargs=kwargs)
    return AutoscalingPolicy.from_serialized_policy_def(
        {"policy_function": sent.policy_function, "policy_kwargs": sent.policy_kwargs},
        sent.get_serialized_policy_def(),
    )


def test_gang_policy_through_serve():
    policy = as_controller_has_it("autoscaling.policy:GangPolicy", GANGS)
    decide = _apply_autoscaling_config(_resolve_policy_callable(policy))
    replicas, state = decide(context(running=1, queued=2, requests=3, metrics=BUSY_GANG))
    assert replicas == 2
    assert state["reason"].startswith("1 -> 2: 2 drain it in 100 s; 2000 GPU-s of work")
    again, _ = decide(
        context(running=1, target=2, queued=2, requests=3, metrics=BUSY_GANG, state=state)
    )
    assert again == 2


def test_serve_wakes_a_sleeping_stage_without_asking():
    policy = as_controller_has_it("autoscaling.policy:GangPolicy", GANGS)
    decide = _apply_autoscaling_config(_resolve_policy_callable(policy))
    assert decide(context(running=0, queued=9, requests=9)) == (1, {})


def test_follow_policy_through_serve():
    kwargs = {"gangs": GANGS, "followers": FOLLOWERS}
    policy = as_controller_has_it("autoscaling.policy:FollowPolicy", kwargs)
    decide = _apply_app_level_autoscaling_config(_resolve_policy_callable(policy))
    leader = context(running=10, metrics=BUSY_GANG)
    decoder, other = context("vae_decoder", running=1), context("pipeline", running=3)
    replicas, states = decide({each.deployment_id: each for each in (leader, decoder, other)})
    # Ten gangs take a clip in 100 s each, and a decoder works 10 s for it, busy for 70 %.
    assert replicas == {leader.deployment_id: 10, decoder.deployment_id: 2}
    assert states[decoder.deployment_id]["reason"].startswith("10 gangs take 360.0 clips an hour")


def test_follow_policy_needs_its_leader():
    policy = as_controller_has_it(
        "autoscaling.policy:FollowPolicy", {"gangs": GANGS, "followers": FOLLOWERS}
    )
    decoder = context("vae_decoder")
    with pytest.raises(ValueError, match="denoiser leads"):
        _resolve_policy_callable(policy)({decoder.deployment_id: decoder})


def test_wrong_knob_is_refused_where_the_policy_is_made():
    policy = as_controller_has_it("autoscaling.policy:GangPolicy", {"gpus": 8})
    with pytest.raises(TypeError, match="gpus"):
        _resolve_policy_callable(policy)


@pytest.mark.parametrize("name", ["GangPolicy", "FollowPolicy"])
def test_pickled_policy_needs_none_of_our_packages(tmp_path: Path, name: str):
    kwargs = GANGS if name == "GangPolicy" else {"gangs": GANGS, "followers": FOLLOWERS}
    sent = AutoscalingPolicy(policy_function=f"autoscaling.policy:{name}", policy_kwargs=kwargs)
    (tmp_path / "policy.pickle").write_bytes(sent.get_serialized_policy_def())
    code = f"""
import importlib.util, pickle, types
assert importlib.util.find_spec("autoscaling") is None
policy = pickle.load(open("policy.pickle", "rb"))(**{kwargs!r})
context = types.SimpleNamespace(
    deployment_name="denoiser", current_num_replicas=1, target_num_replicas=1, current_time=0.0,
    capacity_adjusted_min_replicas=0, capacity_adjusted_max_replicas=9, policy_state={{}},
    total_queued_requests=9, raw_metrics={{}},
)
answer = policy(context) if {name == "GangPolicy"} else policy({{"key": context}})
print(answer)
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
    assert "1 -> 5" in run.stdout


def test_a_reason_is_logged_once(caplog: pytest.LogCaptureFixture):
    policy = as_controller_has_it("autoscaling.policy:GangPolicy", GANGS)
    decide = _resolve_policy_callable(policy)
    with caplog.at_level(logging.INFO, logger="ray.serve"):
        logging.getLogger("ray.serve").addHandler(caplog.handler)
        for _ in range(3):
            decide(context(running=1, queued=2, metrics=BUSY_GANG))
        logging.getLogger("ray.serve").removeHandler(caplog.handler)
    lines = {record.getMessage() for record in caplog.records if "denoiser" in record.getMessage()}
    assert len(lines) == 1
    assert next(iter(lines)).startswith("denoiser: 1 -> 2: 2 drain it in 100 s")


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
        signal = Signal(float(now_s), running, target, 0, 0.0, 0, None, 0, 20)
        assert ours.target(Observation(signal, requests)) == wanted
        target = wanted


def test_zero_is_reached_from_one_only():
    config = AutoscalingConfig(min_replicas=0, max_replicas=9, downscale_delay_s=0)
    theirs, _ = _apply_delay_logic(0, 5, config, {}, _now=0.0)
    signal = Signal(0.0, 5, 5, 0, 0.0, 0, None, 0, 9)
    ours, _ = after_serve(0, signal, Delays(0, 0), DelayState())
    assert theirs == ours == 1
