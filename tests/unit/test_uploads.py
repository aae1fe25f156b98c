"""Uploaded bytes: what is taken, and that headers are read before anything is made."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from deployments.api.uploads import decode_image, decode_npy, image_bytes
from model.errors import InvalidInputError
from tests.support.server import data_url, picture


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_formats(kind: str) -> None:
    pixels = decode_image(picture(40, 24, kind=kind), max_pixels=1000)
    assert pixels.shape == (24, 40, 3)
    assert pixels.dtype == np.uint8
    assert pixels[:, -1].mean() > pixels[:, 0].mean() + 150


def test_orientation_is_followed() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    assert decode_image(picture(40, 24, kind="JPEG", exif=exif), max_pixels=1000).shape[:2] == (
        40,
        24,
    )


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_modes_become_rgb(mode: str) -> None:
    file = io.BytesIO()
    Image.new(mode, (8, 6)).save(file, "JPEG" if mode == "CMYK" else "PNG")
    assert decode_image(file.getvalue(), max_pixels=100).shape == (6, 8, 3)


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its few bytes do not hold."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [2_000, 12_000, 60_000])
def test_size_is_read_off_the_header(side: int) -> None:
    with pytest.raises(InvalidInputError, match="pixels"):
        decode_image(bomb(side, side), max_pixels=1_000_000)


def test_image_that_is_cut_short() -> None:
    with pytest.raises(InvalidInputError, match="damaged"):
        decode_image(bomb(100, 100), max_pixels=1_000_000)


def test_data_urls() -> None:
    assert image_bytes(data_url(b"abc")) == b"abc"
    for url in ("http://a/b.png", "data:text/html;base64,YQ==", "data:image/png,abc", "", "/etc"):
        with pytest.raises(InvalidInputError, match="image_url"):
            image_bytes(url)


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
