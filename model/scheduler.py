"""diffusers' solvers on the published sigma schedules.

diffusers' own flow schedules start and round elsewhere, so only its update rules are used:
the sigmas and integer timesteps here are those of `fm_solvers_unipc.py` and `fm_solvers.py`
(Robbyant/lingbot-world, 6ca87d4).
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler
from torch import Tensor

from model.types import NUM_TRAIN_TIMESTEPS, FloatArray, SamplerSettings, SamplerState, Solver

# What diffusers' solvers remember from step to step; DPM++ does without some of it.
_OUTPUT, _LAST_SAMPLE, _TIMESTEPS = "model_output_", "last_sample", "timestep_list"
_COUNTERS = ("lower_order_nums", "this_order")


class FlowSolver:
    """One solver run over one clip.

    Args:
        sampler: Steps, shift and which solver.
        device: Where the samples are.
    """

    def __init__(self, sampler: SamplerSettings, device: torch.device) -> None:
        sigmas = flow_sigmas(sampler)
        self._scheduler = _SCHEDULERS[sampler.solver]()
        self._scheduler.set_timesteps(sampler.num_inference_steps)
        self._scheduler.set_begin_index(0)
        self._scheduler.sigmas = torch.from_numpy(np.append(sigmas, 0.0).astype(np.float32))
        self.timesteps = torch.from_numpy((sigmas * NUM_TRAIN_TIMESTEPS).astype(np.int64))
        self._scheduler.timesteps = self.timesteps.to(device)

    def step(self, flow: Tensor, index: int, sample: Tensor) -> Tensor:
        """The sample at step `index + 1`, from the flow predicted at step `index`; float32."""
        timestep = self._scheduler.timesteps[index]
        (next_sample,) = self._scheduler.step(flow, timestep, sample, return_dict=False)
        return next_sample  # type: ignore[no-any-return]

    def state(self, index: int, sample: Tensor) -> SamplerState:
        """All that `restore` needs after `index` steps, copied to the host.

        Args:
            index: Steps that are finished, at least 1.
            sample: What they made.
        """
        outputs = {f"{_OUTPUT}{i}": x for i, x in enumerate(self._scheduler.model_outputs)}
        tensors = {**outputs, _LAST_SAMPLE: getattr(self._scheduler, _LAST_SAMPLE, None)}
        return SamplerState(
            index=index,
            sample=_array(sample),
            history={name: _array(x) for name, x in tensors.items() if x is not None},
            counters={
                n: getattr(self._scheduler, n) for n in _COUNTERS if _has(self._scheduler, n)
            },
        )

    def restore(self, state: SamplerState) -> Tensor:
        """Goes back to a state of the same sampler; returns the sample for the next step."""
        device = self._scheduler.timesteps.device
        tensors = {n: torch.from_numpy(np.array(x)).to(device) for n, x in state.history.items()}
        if _LAST_SAMPLE in tensors:
            self._scheduler.last_sample = tensors[_LAST_SAMPLE]
        order = len(self._scheduler.model_outputs)
        self._scheduler.model_outputs = [tensors.get(f"{_OUTPUT}{i}") for i in range(order)]
        for name, value in state.counters.items():
            setattr(self._scheduler, name, value)
        if hasattr(self._scheduler, _TIMESTEPS):
            done = [None] * order + list(self._scheduler.timesteps[: state.index])
            setattr(self._scheduler, _TIMESTEPS, done[-order:])
        self._scheduler._step_index = state.index
        return torch.from_numpy(np.array(state.sample)).to(device)


def flow_sigmas(sampler: SamplerSettings) -> npt.NDArray[np.float64]:
    """Noise levels before each step, from (almost) 1 downwards, without the final 0.

    Returns:
        Float64 [num_inference_steps]. UniPC starts at 0.999, DPM++ at 1, before the shift.
    """
    # float32: the published UniPC takes its start from a float32 table
    start = 1.0 if sampler.solver is Solver.DPMPP else float(np.float32(1 - 1 / 1000))
    linear = np.linspace(start, 0.0, sampler.num_inference_steps + 1)[:-1]
    shift = sampler.flow_shift
    shifted: npt.NDArray[np.float64] = shift * linear / (1 + (shift - 1) * linear)
    return shifted


def _has(scheduler: Any, name: str) -> bool:
    return getattr(scheduler, name, None) is not None


def _array(tensor: Tensor) -> FloatArray:
    return tensor.detach().float().cpu().numpy().copy()


def _unipc() -> Any:
    return UniPCMultistepScheduler(
        num_train_timesteps=NUM_TRAIN_TIMESTEPS,
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        solver_order=2,
        solver_type="bh2",
        predict_x0=True,
        lower_order_final=True,
        final_sigmas_type="zero",
    )


def _dpmpp() -> Any:
    return DPMSolverMultistepScheduler(
        num_train_timesteps=NUM_TRAIN_TIMESTEPS,
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        solver_order=2,
        algorithm_type="dpmsolver++",
        solver_type="midpoint",
        lower_order_final=True,
        final_sigmas_type="zero",
    )


_SCHEDULERS = {Solver.UNIPC: _unipc, Solver.DPMPP: _dpmpp}
