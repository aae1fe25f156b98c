"""The denoiser against what the published code computed (tests/golden/README.md)."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import Tensor

from model.camera import camera_condition
from model.checkpoint.layout import locate_checkpoint
from model.denoiser import Denoiser, first_frame_condition, initial_noise
from model.errors import ConfigurationError
from model.prompts import DEFAULT_NEGATIVE_PROMPT
from model.scheduler import FlowSolver
from model.types import (
    FirstFrame,
    ImageEmbeds,
    Latents,
    SamplerSettings,
    SamplerState,
    Solver,
    Step,
)
from tests.support.golden import golden_request, golden_results

CPU = torch.device("cpu")


def relative_error(ours: Tensor, expected: Tensor) -> float:
    return float((ours - expected).norm() / expected.norm())


@pytest.fixture(scope="module")
def case(golden):
    return json.loads((golden / "case/case.json").read_text())


@pytest.fixture(scope="module")
def expected(golden):
    return golden_results(golden)


@pytest.fixture(scope="module")
def request_(golden):
    return golden_request(golden)


@pytest.fixture(scope="module")
def denoiser(golden):
    checkpoint = locate_checkpoint(golden / "checkpoint")
    return Denoiser.load(checkpoint, device=CPU, dtype=torch.float32)


def test_conditions_agree_with_the_published_code(request_, expected):
    rays = camera_condition(request_.camera, request_.shape, device=CPU)
    assert relative_error(rays[None], expected["plucker"]) <= 1e-5
    assert torch.equal(first_frame_condition(request_.first_frame), expected["y"])
    assert torch.equal(initial_noise(request_.seed, request_.shape), expected["noise"])
    timesteps = FlowSolver(request_.sampler, CPU).timesteps
    assert torch.equal(timesteps, expected["timesteps"].long())


def test_default_negative_prompt_is_the_published_one(case):
    assert case["neg_prompt"] == DEFAULT_NEGATIVE_PROMPT


def test_every_forward_agrees_with_the_published_code(denoiser, request_, case, expected):
    inputs = denoiser._inputs(request_)
    for index, timestep in enumerate(expected["timesteps"]):
        expert = denoiser._experts.choose(int(timestep), case["boundary"])
        name = "high_noise" if expert is denoiser._experts.high_noise else "low_noise"
        assert f"{name}_model" == case["experts"][index]
        with torch.no_grad():
            condition = denoiser._condition(expert, inputs)
            latent = expected["latent_steps"][index]
            cond = expert(latent, timestep, condition.clip, condition.prompt)
            uncond = expert(latent, timestep, condition.clip, condition.negative_prompt)
        assert relative_error(cond, expected["pred_cond"][index]) <= 1e-4
        assert relative_error(uncond, expected["pred_uncond"][index]) <= 1e-4


def test_whole_denoise_agrees_and_reports_every_step(denoiser, request_, expected):
    *steps, latents = denoiser.denoise(request_)
    assert steps == [Step(i + 1, 6) for i in range(6)]
    assert isinstance(latents, Latents)
    error = relative_error(torch.from_numpy(latents.values), expected["latent_steps"][-1])
    assert error <= 1e-3


def test_camera_modulations_kept_or_recomputed_are_the_same(denoiser, request_):
    expert, inputs = denoiser._experts.low_noise, denoiser._inputs(request_)
    noise = initial_noise(0, request_.shape)
    with torch.no_grad():
        prompt = expert.condition_prompt(inputs.prompt_SC, None)
        flows = [
            expert(
                noise,
                torch.tensor(500),
                expert.condition_clip(inputs.y_CFhw, inputs.camera_CFhw, kept_blocks=kept),
                prompt,
            )
            for kept in (2, 1, 0)
        ]
    assert torch.equal(flows[0], flows[1]) and torch.equal(flows[0], flows[2])


def test_guidance_scales_belong_to_their_experts(denoiser, request_):
    def run(**changes):
        sampler = dataclasses.replace(request_.sampler, num_inference_steps=4, **changes)
        *_, latents = denoiser.denoise(dataclasses.replace(request_, sampler=sampler))
        return latents.values

    only_high = {"boundary_ratio": 0.0}
    base = run(**only_high)
    assert np.array_equal(base, run(**only_high, guidance_scale_2=1.0))
    assert not np.allclose(base, run(**only_high, guidance_scale=1.0))


def test_camera_moves_the_result(denoiser, request_):
    sampler = dataclasses.replace(request_.sampler, num_inference_steps=2)
    with_camera = dataclasses.replace(request_, sampler=sampler)
    without = dataclasses.replace(with_camera, camera=None)
    results = [list(denoiser.denoise(r))[-1].values for r in (with_camera, without)]
    assert not np.allclose(*results)


def test_clip_features_for_a_checkpoint_without_the_branch_are_refused(denoiser, request_):
    image = ImageEmbeds(np.zeros((257, 1280), np.float32))
    with pytest.raises(ConfigurationError, match="CLIP"):
        next(denoiser.denoise(dataclasses.replace(request_, image=image)))


@pytest.mark.parametrize("solver", Solver)
def test_a_denoise_goes_on_from_any_step_as_if_it_had_never_stopped(denoiser, request_, solver):
    # 16 steps, as DPM++ ends shorter runs another way; a boundary in the middle, so that
    # both experts are resumed in.
    sampler = SamplerSettings(num_inference_steps=16, solver=solver, boundary_ratio=0.9)
    shape = dataclasses.replace(request_.shape, num_frames=1)
    first_frame = FirstFrame(request_.first_frame.latent[:, :1])
    whole = dataclasses.replace(
        request_, sampler=sampler, shape=shape, first_frame=first_frame, camera=None, state_every=5
    )
    *items, latents = denoiser.denoise(whole)
    states = [item for item in items if isinstance(item, SamplerState)]
    assert [state.index for state in states] == [5, 10, 15]
    assert latents.values.tobytes() == list(denoiser.denoise(whole))[-1].values.tobytes()
    for state in states:
        rest = list(denoiser.denoise(dataclasses.replace(whole, resume=state)))
        assert rest[0] == Step(state.index + 1, 16)
        assert rest[-1].values.tobytes() == latents.values.tobytes(), state.index


@pytest.mark.parametrize("solver", Solver)
@pytest.mark.parametrize("steps", [3, 6])
def test_the_first_and_the_last_steps_are_no_exception(denoiser, request_, solver, steps):
    sampler = SamplerSettings(num_inference_steps=steps, solver=solver)
    shape = dataclasses.replace(request_.shape, num_frames=1)
    first_frame = FirstFrame(request_.first_frame.latent[:, :1])
    whole = dataclasses.replace(
        request_, sampler=sampler, shape=shape, first_frame=first_frame, camera=None, state_every=1
    )
    *items, latents = denoiser.denoise(whole)
    states = [item for item in items if isinstance(item, SamplerState)]
    assert [state.index for state in states] == list(range(1, steps))
    for state in states:
        *_, resumed = denoiser.denoise(dataclasses.replace(whole, resume=state))
        assert resumed.values.tobytes() == latents.values.tobytes(), state.index
