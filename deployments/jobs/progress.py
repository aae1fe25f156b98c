"""From stage events to one number that never falls."""

from collections.abc import Mapping
from types import MappingProxyType

from deployments.messages import Stage, StageEvent, StageState

# Percent at which a stage begins and ends; the denoiser has nearly all, as it takes nearly all.
_SPANS: Mapping[Stage, tuple[float, float]] = MappingProxyType(
    {
        Stage.TEXT_ENCODER: (0.0, 1.0),
        Stage.IMAGE_ENCODER: (0.0, 1.0),
        Stage.VAE_ENCODER: (0.0, 2.0),
        Stage.DENOISER: (2.0, 93.0),
        Stage.VAE_DECODER: (93.0, 99.0),
    }
)

# Where a job stands whose latents are there and whose video is not.
DENOISED_PERCENT = int(_SPANS[Stage.VAE_DECODER][0])


def percent(event: StageEvent) -> int:
    """How much of the clip is done at an event, 0 to 99; only the stored file makes it 100."""
    start, end = _SPANS[event.stage]
    done = 1.0 if event.state is StageState.FINISHED else event.index / max(event.total, 1)
    return int(start + (end - start) * done)
