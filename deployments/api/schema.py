"""What clients send: OpenAI's fields plus those of this model."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from model.types import FPS, Solver

Priority = Literal["low", "normal", "high"]
Guidance = Annotated[float, Field(ge=0, le=100)]


class _Body(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class ImageReference(_Body):
    """An image inside the body."""

    image_url: str
    """`data:image/png;base64,…`, or of JPEG or WebP."""


class CameraBody(BaseModel):
    """A camera path as numbers."""

    # `model.geometry.check_camera` has the last word, also on numbers that are not finite.
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    poses: list[list[list[float]]]
    """Camera-to-world matrices [N,4,4], OpenCV axes."""
    intrinsics: list[list[float]]
    """Rows of fx, fy, cx, cy in pixels of an 832x480 image; only row 0 is used."""


def _whole_seconds(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


class VideoCreate(_Body):
    """Fields of `POST /v1/videos`; each one left out takes the preset's value."""

    prompt: str = Field(min_length=1)
    """What to show."""
    model: str | None = None
    """Must be the served model's name where it is sent."""
    seconds: Annotated[int, BeforeValidator(_whole_seconds)] | None = Field(default=None, ge=1)
    """Length of the clip; an alternative to `num_frames`."""
    size: str | None = Field(default=None, pattern=r"^[1-9]\d{0,4}x[1-9]\d{0,4}$")
    """"WxH": an area; the aspect is that of the image."""
    num_frames: int | None = Field(default=None, ge=1)
    """Must be 4n+1."""
    fps: int = FPS
    """Only 16."""
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    """Of the initial noise; random where it is left out."""
    negative_prompt: str | None = None
    """What not to show; the published one where it is left out."""
    num_inference_steps: int | None = Field(default=None, ge=1)
    """Solver steps."""
    guidance_scale: Guidance | None = None
    """Guidance of the high-noise expert."""
    guidance_scale_2: Guidance | None = None
    """Guidance of the low-noise expert."""
    flow_shift: Annotated[float, Field(gt=0, le=100)] | None = None
    """Shift of the sigma schedule."""
    boundary_ratio: Annotated[float, Field(ge=0, le=1)] | None = None
    """Where the high-noise expert hands over."""
    sampler: Solver | None = None
    """Solver of the denoiser."""
    camera: CameraBody | None = None
    """Where the camera goes; a form may send `poses` and `intrinsics` as .npy files instead."""
    input_reference: ImageReference | None = None
    """The first frame, which is required; a form may send it as a file."""
    return_tensors: bool = False
    """Whether `/content?variant=tensors` will have latents and frames."""
    deadline_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds from now within which the clip should be done; gangs are added in time for it where
    there is room. A clip that is late is still made."""
    priority: Priority = "normal"
    """Which jobs go first where several wait."""

    @model_validator(mode="after")
    def _one_length(self) -> "VideoCreate":
        if self.seconds is not None and self.num_frames is not None:
            raise ValueError("send either num_frames or seconds, not both")
        return self
