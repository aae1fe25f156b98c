"""Two pictures of a clip, taken while its frames pass by."""

import io
from dataclasses import dataclass

from PIL import Image

from model.types import UInt8Array

# As large as lists of videos show them; some kilobytes each.
_THUMBNAIL_SIZE = (320, 320)
_THUMBNAIL_QUALITY = 80


@dataclass(frozen=True, slots=True)
class Stills:
    """Pictures of one clip as files.

    Args:
        thumbnail: WebP of the frame in the middle, small.
        last_frame: PNG of the last frame, every pixel as it was decoded: the next clip may begin
            with it.
    """

    thumbnail: bytes
    last_frame: bytes


class StillsWriter:
    """Keeps two frames of a clip.

    Args:
        num_frames: Of the whole clip.
    """

    def __init__(self, num_frames: int) -> None:
        self._middle = num_frames // 2
        self._num_seen = 0
        self._middle_frame: UInt8Array | None = None
        self._last_frame: UInt8Array | None = None

    def write(self, pixels: UInt8Array) -> None:
        """Looks at the next frames.

        Args:
            pixels: Uint8 [t, H, W, 3], RGB.
        """
        index = self._middle - self._num_seen
        if 0 <= index < len(pixels):
            # A copy: the frames around it must not stay in memory for its sake.
            self._middle_frame = pixels[index].copy()
        self._last_frame = pixels[-1]
        self._num_seen += len(pixels)

    def finish(self) -> Stills:
        """Both pictures; nothing may be written after."""
        assert self._middle_frame is not None, "the clip has no frame in its middle"
        assert self._last_frame is not None, "the clip has no frames"
        thumbnail = Image.fromarray(self._middle_frame)
        thumbnail.thumbnail(_THUMBNAIL_SIZE)
        return Stills(
            thumbnail=_file(thumbnail, "WEBP", quality=_THUMBNAIL_QUALITY),
            last_frame=_file(Image.fromarray(self._last_frame), "PNG"),
        )


def _file(image: Image.Image, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
