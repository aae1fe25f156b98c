"""A clip to measure, by its size and length."""

from dataclasses import dataclass

from autoscaling.cost import latent_tokens
from model.errors import InvalidInputError
from model.types import VideoShape

_EDGE = 16  # pixels of a token
_FRAMES_PER_LATENT = 4


@dataclass(frozen=True, slots=True)
class Clip:
    """Written WxHxF: pixels of a frame, and frames.

    Args:
        width: Pixels.
        height: Pixels.
        frames: 4n+1.
    """

    width: int
    height: int
    frames: int

    @classmethod
    def parse(cls, text: str) -> "Clip":
        """Reads "480x832x81".

        Raises:
            InvalidInputError: It is no clip, or not one of whole patches and latent frames.
        """
        parts = text.split("x")
        if len(parts) != 3 or not all(part.isdigit() for part in parts):
            raise InvalidInputError("--clip", f"takes WxHxF such as 480x832x81, not {text!r}")
        width, height, frames = map(int, parts)
        if width % _EDGE or height % _EDGE or not width * height:
            raise InvalidInputError("--clip", f"{text}: the sides must be multiples of {_EDGE}")
        if frames < 1 or frames % _FRAMES_PER_LATENT != 1:
            raise InvalidInputError("--clip", f"{text}: frames are 4n+1, such as 81")
        return cls(width, height, frames)

    @property
    def size(self) -> str:
        return f"{self.width}x{self.height}"

    @property
    def num_tokens(self) -> int:
        return latent_tokens(self.frames, self.height, self.width)

    @property
    def shape(self) -> VideoShape:
        return VideoShape(self.frames, self.height, self.width)

    def __str__(self) -> str:
        return f"{self.size}x{self.frames}"
