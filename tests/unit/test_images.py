"""Images of strangers: what is taken, and what a hostile one costs."""

import asyncio
import io
import signal
import struct
import subprocess
import sys
import time
import zlib
from contextlib import closing, suppress

import numpy as np
import psutil
import pytest
from PIL import Image

from deployments.images.decode import decode_image
from deployments.images.decoder import DecodeLimits, ImageDecoder, as_array
from model.errors import InvalidInputError
from tests.support.processes import command_of, living
from tests.support.server import picture


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_formats(kind: str) -> None:
    pixels = as_array(decode_image(picture(40, 24, kind=kind), max_pixels=1000))
    assert pixels.shape == (24, 40, 3)
    assert pixels.dtype == np.uint8
    assert pixels[:, -1].mean() > pixels[:, 0].mean() + 150


def test_orientation_is_followed() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    turned = decode_image(picture(40, 24, kind="JPEG", exif=exif), max_pixels=1000)
    assert (turned.width, turned.height) == (24, 40)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_modes_become_rgb(mode: str) -> None:
    file = io.BytesIO()
    Image.new(mode, (8, 6)).save(file, "JPEG" if mode == "CMYK" else "PNG")
    assert as_array(decode_image(file.getvalue(), max_pixels=100)).shape == (6, 8, 3)


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


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9, 0.99])
def test_file_that_is_cut_short(kind: str, kept: float) -> None:
    rng = np.random.default_rng(0)
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(file, kind)
    whole = file.getvalue()
    with pytest.raises(InvalidInputError, match=r"damaged|no image"):
        decode_image(whole[: int(len(whole) * kept)], max_pixels=10_000)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM", "TGA", "ICO"])
def test_other_formats(kind: str) -> None:
    with pytest.raises(InvalidInputError, match="PNG, JPEG, WEBP"):
        decode_image(picture(kind=kind), max_pixels=10_000)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animations(kind: str) -> None:
    file = io.BytesIO()
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    first.save(file, kind, save_all=True, append_images=[second])
    with pytest.raises(InvalidInputError, match="animated"):
        decode_image(file.getvalue(), max_pixels=100)


def test_of_a_phones_several_pictures_the_first_is_taken() -> None:
    file = io.BytesIO()
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    first.save(file, "MPO", save_all=True, append_images=[second])
    assert as_array(decode_image(file.getvalue(), max_pixels=100))[0, 0, 0] > 200


def test_of_metadata_nothing_is_left() -> None:
    exif = Image.Exif()
    exif[0x010E] = "where I live"
    pixels = decode_image(picture(8, 8, kind="JPEG", exif=exif), max_pixels=100)
    assert pixels._fields == ("width", "height", "rgb")
    assert len(pixels.rgb) == 8 * 8 * 3


@pytest.fixture(scope="module")
def large() -> bytes:
    """An image that weighs a few kilobytes and takes a while."""
    file = io.BytesIO()
    Image.new("RGB", (4000, 4000)).save(file, "PNG")
    return file.getvalue()


def decoders() -> list[psutil.Process]:
    """The processes of this one's decoders."""
    name = "deployments.images.decode_server"
    return [each for each in living(psutil.Process().children()) if name in command_of(each)]


def decode_all(decoder: ImageDecoder, *files: bytes) -> list[object]:
    """What became of each file; all are sent at once."""

    async def run() -> list[object]:
        tasks = [decoder.decode(file) for file in files]
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    with closing(decoder):
        return asyncio.run(run())


def is_picture(outcome: object) -> bool:
    return isinstance(outcome, np.ndarray) and outcome.shape == (56, 96, 3)


def test_decoded_elsewhere_is_decoded_the_same() -> None:
    (outcome,) = decode_all(ImageDecoder(max_pixels=10_000), picture())
    np.testing.assert_array_equal(outcome, as_array(decode_image(picture(), max_pixels=10_000)))


def test_what_is_wrong_with_an_image_is_said() -> None:
    decoder = ImageDecoder(max_pixels=1000)
    outcomes = decode_all(decoder, b"nonsense", picture(), picture(20, 20)[:60], picture(9, 9), b"")
    words = [str(outcome) for outcome in outcomes]
    assert "PNG, JPEG, WEBP" in words[0] and "at most 1000 pixels" in words[1]
    assert "damaged" in words[2] and "PNG, JPEG, WEBP" in words[4]
    assert isinstance(outcomes[3], np.ndarray)


def test_memory_is_limited(large: bytes) -> None:
    tight = DecodeLimits(base_bytes=120 * 2**20, bytes_per_pixel=0)
    outcomes = decode_all(ImageDecoder(max_pixels=10**8, limits=tight), large, picture())
    assert isinstance(outcomes[0], InvalidInputError) and "memory" in str(outcomes[0])
    assert is_picture(outcomes[1])


def test_time_is_limited(large: bytes) -> None:
    hasty = DecodeLimits(max_seconds=0.02)
    (outcome,) = decode_all(ImageDecoder(max_pixels=10**8, limits=hasty), large)
    assert isinstance(outcome, InvalidInputError) and "cannot be decoded in 0.02 s" in str(outcome)


def test_a_decoder_that_dies_costs_its_own_request_only(large: bytes) -> None:
    decoder = ImageDecoder(max_pixels=10**8)

    async def run() -> None:
        assert is_picture(await decoder.decode(picture()))
        server = decoders()[0]
        doomed = asyncio.create_task(decoder.decode(large))
        while not (children := living(server.children())):
            await asyncio.sleep(0)
        children[0].send_signal(signal.SIGSEGV)
        assert is_picture(await decoder.decode(picture()))
        with pytest.raises(InvalidInputError, match="cannot be decoded"):
            await doomed
        server.kill()
        server.wait()
        assert is_picture(await decoder.decode(picture()))

    with closing(decoder):
        asyncio.run(run())
    assert decoders() == []


_GATEWAY_THAT_IS_KILLED = """
import asyncio, os, psutil, signal, sys
from deployments.images.decoder import ImageDecoder
asyncio.run(ImageDecoder(max_pixels=10000).decode(sys.stdin.buffer.read()))
print(psutil.Process().children()[0].pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_decoders_end_with_their_gateway() -> None:
    run = subprocess.run(
        [sys.executable, "-c", _GATEWAY_THAT_IS_KILLED], input=picture(), stdout=subprocess.PIPE
    )
    deadline_s = time.monotonic() + 30
    with suppress(psutil.NoSuchProcess):
        server = psutil.Process(int(run.stdout))
        while living([server]):
            assert time.monotonic() < deadline_s
            time.sleep(0.05)


def test_decoders_know_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "secret")
    decoder = ImageDecoder(max_pixels=10_000)

    async def environment() -> dict[str, str]:
        await decoder.decode(picture())
        return decoders()[0].environ()

    with closing(decoder):
        assert set(asyncio.run(environment())) <= {"PYTHONPATH", "PYTHONSAFEPATH", "LC_CTYPE"}
