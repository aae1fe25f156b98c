"""How noisy the samples are that each expert is trained on.

Levels are drawn evenly before the published shift (arXiv 2403.03206), each expert on its side
of the boundary.
"""

import torch
from torch import Tensor

FLOW_SHIFT = 10.0
BOUNDARY = 0.947
# The last step of 12 begins at 0.476 and that of 19 at 0.36: less noise than this is never seen.
LEAST = 0.35
HIGH, LOW = 0, 1


def noise_levels(count: int, expert: int, *, device: torch.device) -> Tensor:
    """Shifted noise levels of one expert's side of the boundary, spread evenly.

    Args:
        count: How many.
        expert: `HIGH` or `LOW`.
        device: Where.
    """
    low, high = (BOUNDARY, 1.0) if expert == HIGH else (LEAST, BOUNDARY)
    even = (torch.arange(count, device=device) + torch.rand(count, device=device)) / count
    level = _before_shift(low) + (_before_shift(high) - _before_shift(low)) * even
    return FLOW_SHIFT * level / (1 + (FLOW_SHIFT - 1) * level)


def _before_shift(level: float) -> float:
    return level / (FLOW_SHIFT - (FLOW_SHIFT - 1) * level)
