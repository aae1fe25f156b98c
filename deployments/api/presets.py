"""Generation defaults by the published sizes, and a small one for a laptop without a GPU."""

from collections.abc import Mapping
from types import MappingProxyType

from pydantic import BaseModel, ConfigDict, Field

from model.types import Solver


class GenerationDefaults(BaseModel):
    """What a request gets for each field it leaves out.

    Args:
        width: Together with `height` the area of a frame, pixels; the aspect is the image's.
        height: See `width`.
        num_frames: Frames of a clip, 4n+1.
        num_inference_steps: Solver steps.
        guidance_scale: Guidance of the high-noise expert.
        guidance_scale_2: Guidance of the low-noise expert.
        flow_shift: Shift of the sigma schedule.
        boundary_ratio: Where the high-noise expert hands over.
        sampler: Which published sampler.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(ge=16)
    height: int = Field(ge=16)
    num_frames: int = Field(default=81, ge=1)
    num_inference_steps: int = Field(default=70, ge=1)
    guidance_scale: float = 5.0
    guidance_scale_2: float = 5.0
    flow_shift: float = Field(default=10.0, gt=0)
    boundary_ratio: float = Field(default=0.947, ge=0, le=1)
    sampler: Solver = Solver.UNIPC

    @property
    def size(self) -> str:
        return f"{self.width}x{self.height}"


PRESETS: Mapping[str, GenerationDefaults] = MappingProxyType(
    {
        "480*832": GenerationDefaults(width=480, height=832),
        "832*480": GenerationDefaults(width=832, height=480),
        "720*1280": GenerationDefaults(width=720, height=1280),
        "1280*720": GenerationDefaults(width=1280, height=720),
        "cpu-small": GenerationDefaults(width=112, height=64, num_frames=17, num_inference_steps=8),
    }
)
