"""Arrays that strangers send: headers first, so that nothing big is ever made."""

import io
import math
import struct
import tokenize

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy_format

from model.errors import InvalidInputError

# What numpy raises on headers that are not what it writes; they are Python literals.
_NO_HEADER = (
    *(ValueError, TypeError, LookupError, ArithmeticError, AttributeError, EOFError),
    *(SyntaxError, RecursionError, MemoryError, tokenize.TokenError, struct.error),
)
_ROW_NUMBERS = 16


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
    except _NO_HEADER as error:
        raise InvalidInputError(field, "is no .npy file; save it with numpy.save") from error
    if dtype.hasobject or dtype.kind not in "fiu":
        raise InvalidInputError(field, f"holds {dtype}; save real numbers, float32 or float64")
    # No numpy here: its products wrap around.
    if not shape or min(shape) < 1 or shape[0] > max_rows or math.prod(shape[1:]) > _ROW_NUMBERS:
        raise InvalidInputError(
            field, f"has another shape; send at most {max_rows} rows of {_ROW_NUMBERS} numbers"
        )
    if len(data) - stream.tell() != math.prod(shape) * dtype.itemsize:
        raise InvalidInputError(field, "is longer or shorter than its header says; save it again")
    stream.seek(0)
    array: npt.NDArray[np.floating] = np.load(stream, allow_pickle=False).astype(np.float64)
    return array
