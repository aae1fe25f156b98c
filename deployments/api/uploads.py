"""From bytes that strangers send to arrays: headers first, so that nothing big is ever made."""

import base64
import io
import warnings

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy_format
from PIL import Image, ImageOps, UnidentifiedImageError

from model.errors import InvalidInputError
from model.types import UInt8Array

_FORMATS = ("PNG", "JPEG", "WEBP")
_IMAGE_FIELD = "input_reference"
_DATA_PREFIX = "data:image/"


def decode_image(data: bytes, *, max_pixels: int) -> UInt8Array:
    """Decodes an uploaded image.

    Args:
        data: A PNG, JPEG or WebP file.
        max_pixels: More than these, by the header, are refused before decoding.

    Returns:
        Uint8 [H, W, 3], RGB, turned as its EXIF orientation says.

    Raises:
        InvalidInputError: Another format, animated, too large, or damaged.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns about large images; the limit below is ours to set.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
        _check_header(image, max_pixels)
        upright = ImageOps.exif_transpose(image)
        pixels: UInt8Array = np.asarray(upright.convert("RGB"))
    except Image.DecompressionBombError as error:
        raise InvalidInputError(_IMAGE_FIELD, f"has more than {max_pixels} pixels") from error
    except UnidentifiedImageError as error:
        raise InvalidInputError(
            _IMAGE_FIELD, f"is no image that can be read; send {', '.join(_FORMATS)}"
        ) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise InvalidInputError(
            _IMAGE_FIELD, "is damaged or cut short; send the whole file"
        ) from error
    return pixels


def _check_header(image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise InvalidInputError(
            _IMAGE_FIELD,
            f"is {image.width}x{image.height}; send at most {max_pixels} pixels",
        )
    if getattr(image, "n_frames", 1) > 1:
        raise InvalidInputError(_IMAGE_FIELD, "is animated; send a still image")


def image_bytes(url: str) -> bytes:
    """Bytes of a `data:` URL; no other address is ever followed.

    Raises:
        InvalidInputError: Another kind of URL, or no base64.
    """
    header, _, payload = url.partition(",")
    if not header.startswith(_DATA_PREFIX) or not header.endswith(";base64"):
        raise InvalidInputError(
            "input_reference.image_url",
            "must be data:image/...;base64,...; the server fetches no URLs, upload the file",
        )
    try:
        return base64.b64decode(payload, validate=True)
    except ValueError as error:  # binascii.Error is one
        raise InvalidInputError("input_reference.image_url", "is not valid base64") from error


def decode_npy(data: bytes, *, field: str, max_rows: int) -> npt.NDArray[np.floating]:
    """Reads an uploaded `.npy` of numbers.

    Args:
        data: The file.
        field: Name of the request field, for error messages.
        max_rows: Longest first dimension.

    Raises:
        InvalidInputError: No `.npy`, Python objects inside, too long, or cut short.
    """
    stream = io.BytesIO(data)
    try:
        version = npy_format.read_magic(stream)
        read_header = {
            (1, 0): npy_format.read_array_header_1_0,
            (2, 0): npy_format.read_array_header_2_0,
        }[version]
        shape, _, dtype = read_header(stream)
    except (ValueError, KeyError, EOFError) as error:
        raise InvalidInputError(field, "is no .npy file; save it with numpy.save") from error
    if dtype.hasobject or dtype.kind not in "fiu":
        raise InvalidInputError(field, f"holds {dtype}; save real numbers, float32 or float64")
    if not shape or shape[0] > max_rows or int(np.prod(shape[1:])) > 16:
        raise InvalidInputError(
            field, f"has the shape {list(shape)}; send at most {max_rows} rows of 16 numbers"
        )
    if len(data) - stream.tell() != int(np.prod(shape)) * dtype.itemsize:
        raise InvalidInputError(field, "is longer or shorter than its header says; save it again")
    stream.seek(0)
    array: npt.NDArray[np.floating] = np.load(stream, allow_pickle=False).astype(np.float64)
    return array
