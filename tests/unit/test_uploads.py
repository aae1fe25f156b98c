"""Uploaded arrays: what is taken, and that headers are read before anything is made."""

import io

import numpy as np
import pytest

from deployments.api.uploads import decode_npy
from model.errors import InvalidInputError


def npy(array: np.ndarray, **options: bool) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", ">f8"])
def test_npy_of_numbers(dtype: str) -> None:
    array = np.tile(np.eye(4), (3, 1, 1)).astype(dtype)
    np.testing.assert_array_equal(decode_npy(npy(array), field="poses", max_rows=3), array)
    column_major = np.asfortranarray(array)
    np.testing.assert_array_equal(decode_npy(npy(column_major), field="p", max_rows=3), array)


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4, 4)), np.zeros((2, 17)), np.zeros(()), np.zeros((2, 4), complex)],
)
def test_npy_of_another_kind(array: np.ndarray) -> None:
    with pytest.raises(InvalidInputError, match="poses"):
        decode_npy(npy(array), field="poses", max_rows=3)


def test_npy_whose_header_lies() -> None:
    honest = npy(np.zeros((3, 4)))
    lying = honest.replace(b"(3, 4)", b"(3,16)")
    assert lying != honest
    with pytest.raises(InvalidInputError, match="header"):
        decode_npy(lying, field="poses", max_rows=3)


def test_npy_with_objects_is_never_unpickled() -> None:
    with pytest.raises(InvalidInputError, match="real numbers"):
        decode_npy(npy(np.array([{}], object), allow_pickle=True), field="poses", max_rows=3)


def header(text: str, *, major: int = 1) -> bytes:
    """The start of a `.npy` with any header."""
    length = len(text).to_bytes(2 if major == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([major, 0]) + length + text.encode("latin1")


FIELDS = "{'descr': '<f8', 'fortran_order': False, 'shape': %s}"


@pytest.mark.parametrize(
    "text",
    [
        *("-" * 9_000 + "1", "(" * 9_000, "{'a': '''", "{", "'", "\0", "[" * 100, "1j", "{}"),
        *(
            FIELDS % "(3, 4294967296, 4294967296)",
            FIELDS % "(3, -1)",
            FIELDS % "(0,)",
            FIELDS % "3",
        ),
        *(FIELDS % "(10**99,)", FIELDS % f"({'9' * 4000},)", FIELDS % "(True, True)"),
        FIELDS.replace("'<f8'", "('<f8',)") % "(1,)",
        FIELDS.replace("'<f8'", "[('x', '<f8'), ('x', '<f8')]") % "(1,)",
        FIELDS.replace("'<f8'", "('<f8', (99999999,))") % "(1,)",
    ],
)
@pytest.mark.parametrize("major", [1, 2, 3])
def test_npy_headers_that_mean_harm(text: str, major: int) -> None:
    with pytest.raises(InvalidInputError):
        decode_npy(header(text, major=major), field="poses", max_rows=100)


def test_archives_are_refused() -> None:
    file = io.BytesIO()
    np.savez(file, poses=np.eye(4))
    with pytest.raises(InvalidInputError, match=r"no \.npy file"):
        decode_npy(file.getvalue(), field="poses", max_rows=100)
