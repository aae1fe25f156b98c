"""From an image file that a stranger sent to pixels; runs in processes of its own.

It imports no numpy: its threads would make forking unsafe.
"""

import io
import struct
import warnings
from typing import NamedTuple

# Named, so that a process has read them before it divides: Pillow imports by need.
from PIL import (
    Image,
    ImageOps,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from model.errors import InvalidInputError

IMAGE_FIELD = "input_reference"
_PLUGINS = (JpegImagePlugin, MpoImagePlugin, PngImagePlugin, WebPImagePlugin)
_FORMATS = ("PNG", "JPEG", "WEBP")
# What a phone's JPEG becomes that holds previews beside the picture; the picture comes first.
_MULTI_PICTURE = "MPO"

# What Pillow's readers raise on files that are not what they claim to be.
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error)


class Pixels(NamedTuple):
    """An image without anything but its pixels.

    Args:
        rgb: Three bytes for each pixel, row by row.
    """

    width: int
    height: int
    rgb: bytes


def decode_image(data: bytes, *, max_pixels: int) -> Pixels:
    """Decodes an image file.

    Args:
        data: A PNG, JPEG or WebP file.
        max_pixels: More than these, by the header, are refused before decoding.

    Returns:
        Its pixels, turned as its EXIF orientation says; no other metadata is read or kept.

    Raises:
        InvalidInputError: Another format, animated, too large, or damaged.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns about large images; the limit below is ours to set.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
        _check_header(image, max_pixels)
        upright = ImageOps.exif_transpose(image).convert("RGB")
    except Image.DecompressionBombError as error:
        raise InvalidInputError(IMAGE_FIELD, f"has more than {max_pixels} pixels") from error
    except UnidentifiedImageError as error:
        raise InvalidInputError(
            IMAGE_FIELD, f"is no image that can be read; send {', '.join(_FORMATS)}"
        ) from error
    except _DAMAGE as error:
        raise InvalidInputError(
            IMAGE_FIELD, "is damaged or cut short; send the whole file"
        ) from error
    return Pixels(upright.width, upright.height, upright.tobytes())


def _check_header(image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise InvalidInputError(
            IMAGE_FIELD, f"is {image.width}x{image.height}; send at most {max_pixels} pixels"
        )
    if getattr(image, "n_frames", 1) > 1 and image.format != _MULTI_PICTURE:
        raise InvalidInputError(IMAGE_FIELD, "is animated; send a still image")
