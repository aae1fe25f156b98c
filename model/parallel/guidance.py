"""The two passes of classifier-free guidance: on the same ranks, or on two halves of a gang."""

from collections.abc import Sequence
from typing import Protocol

import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup

from model.block import ClipCondition
from model.dit import DiT
from model.layers import BlockPrompt

NUM_BRANCHES = 2


class Guidance(Protocol):
    """Who computes which branch of a guided step."""

    def flows(
        self,
        expert: DiT,
        latent_CFhw: Tensor,
        timestep: Tensor,
        clip: ClipCondition,
        prompts: Sequence[tuple[BlockPrompt, ...]],
    ) -> list[Tensor]:
        """The flow for each prompt, the same on every rank; arguments as in `DiT.predict`."""
        ...


class SharedGuidance:
    """Every rank works on both branches, which share what they can."""

    def flows(
        self,
        expert: DiT,
        latent_CFhw: Tensor,
        timestep: Tensor,
        clip: ClipCondition,
        prompts: Sequence[tuple[BlockPrompt, ...]],
    ) -> list[Tensor]:
        return expert.predict(latent_CFhw, timestep, clip, prompts)


class SplitGuidance:
    """Each rank works on one branch and has the other's flow from its peer, once a step.

    Args:
        branch: Which prompt is this rank's.
        group: The ranks with the same tokens, one per branch and in their order.
    """

    def __init__(self, branch: int, group: ProcessGroup) -> None:
        self._branch = branch
        self._group = group

    def flows(
        self,
        expert: DiT,
        latent_CFhw: Tensor,
        timestep: Tensor,
        clip: ClipCondition,
        prompts: Sequence[tuple[BlockPrompt, ...]],
    ) -> list[Tensor]:
        [mine] = expert.predict(latent_CFhw, timestep, clip, [prompts[self._branch]])
        flows = mine.new_empty(NUM_BRANCHES, *mine.shape)
        dist.all_gather(list(flows.unbind(0)), mine.contiguous(), group=self._group)
        return list(flows.unbind(0))
