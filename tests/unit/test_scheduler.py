"""The published sigma schedules, and that the solvers integrate a known flow."""

import numpy as np
import pytest
import torch

from model.scheduler import FlowSolver, flow_sigmas
from model.types import SamplerSettings, Solver

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("steps", "shift", "high"), [(70, 10, 26), (50, 10, 18), (40, 10, 15), (40, 5, 9), (70, 5, 16)]
)
def test_steps_of_the_high_noise_expert(steps, shift, high):
    solver = FlowSolver(SamplerSettings(num_inference_steps=steps, flow_shift=shift), CPU)
    assert int((solver.timesteps >= 947).sum()) == high


def test_where_the_schedules_start():
    unipc = FlowSolver(SamplerSettings(70), CPU).timesteps
    assert (unipc[0], unipc[-1]) == (999, 126)
    dpmpp = FlowSolver(SamplerSettings(70, solver=Solver.DPMPP), CPU).timesteps
    assert dpmpp[:3].tolist() == [1000, 998, 997]


@pytest.mark.parametrize("solver", Solver)
@pytest.mark.parametrize("steps", [1, 2, 14, 15, 40])
def test_a_straight_flow_is_integrated_exactly(solver, steps):
    clean, noise = torch.linspace(-1, 1, 24).view(1, 2, 3, 4), torch.ones(1, 2, 3, 4)
    settings = SamplerSettings(steps, solver=solver)
    start = float(np.float32(flow_sigmas(settings)[0]))
    sample = (1 - start) * clean + start * noise
    run = FlowSolver(settings, CPU)
    for index in range(steps):
        sample = run.step(noise - clean, index, sample)
    assert torch.allclose(sample, clean, atol=1e-5)
