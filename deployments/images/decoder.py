"""Decodes images in processes that may die of them; the gateway's side."""

import asyncio
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from deployments.images import decode_server
from deployments.images.decode import IMAGE_FIELD, Pixels
from deployments.images.decode_server import ANSWER, MAX_CHILDREN, REQUEST
from model.errors import InvalidInputError
from model.types import UInt8Array

_BACKLOG = 128
# For a child to be ended by its own limit first.
_MARGIN_S = 5.0


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What decoding one image may cost.

    Args:
        max_seconds: Of time, and of CPU time in whole ones.
        base_bytes: Of memory: Python, Pillow and its libraries as they lie in it, and the file.
        bytes_per_pixel: Of memory: a WebP is held twice by its decoder, and Pillow holds four bytes
            for a pixel at each of its conversions.
    """

    max_seconds: float = 10.0
    base_bytes: int = 512 * 2**20
    bytes_per_pixel: int = 32


class ImageDecoder:
    """Decodes images one child process each, four at a time.

    The process that forks them starts with the first image and is started again when it is gone.

    Args:
        max_pixels: Larger images are refused.
        limits: Of time and memory.
    """

    def __init__(self, *, max_pixels: int, limits: DecodeLimits | None = None) -> None:
        self._max_pixels = max_pixels
        self._limits = DecodeLimits() if limits is None else limits
        self._turns = asyncio.Semaphore(MAX_CHILDREN)
        self._folder = TemporaryDirectory(prefix="lingbot-images-")  # nobody else may enter it
        self._server: subprocess.Popen[bytes] | None = None

    async def decode(self, data: bytes) -> UInt8Array:
        """Decodes a PNG, JPEG or WebP file.

        Args:
            data: The file.

        Returns:
            Uint8 [H, W, 3], RGB, turned as its EXIF orientation says.

        Raises:
            InvalidInputError: Another format, animated, too large, damaged, or beyond the limits
                of time and memory.
        """
        patience_s = self._limits.max_seconds + _MARGIN_S
        async with self._turns:
            try:
                pixels = await asyncio.wait_for(self._ask(data), patience_s)
            except (asyncio.TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
                raise InvalidInputError(
                    IMAGE_FIELD,
                    f"cannot be decoded in {self._limits.max_seconds:g} s; send another file",
                ) from error
        return as_array(pixels)

    def close(self) -> None:
        """Ends the processes."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
        self._folder.cleanup()

    async def _ask(self, data: bytes) -> Pixels:
        reader, writer = await self._connect()
        try:
            memory = self._limits.base_bytes + self._limits.bytes_per_pixel * self._max_pixels
            writer.write(REQUEST.pack(self._max_pixels, memory, self._limits.max_seconds))
            writer.write(data)
            writer.write_eof()
            width, height = ANSWER.unpack(await reader.readexactly(ANSWER.size))
            if width == 0:
                raise InvalidInputError(IMAGE_FIELD, (await reader.read()).decode())
            if width * height > self._max_pixels:
                raise ConnectionError("the decoder answers with more than it may")
            return Pixels(width, height, await reader.readexactly(width * height * 3))
        finally:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        path = Path(self._folder.name) / "decoder"
        if self._server is None or self._server.poll() is not None:
            path.unlink(missing_ok=True)
            self._server = _start(path)
        return await asyncio.open_unix_connection(path)


def as_array(pixels: Pixels) -> UInt8Array:
    """Pixels as the stages take them, [H, W, 3]."""
    flat = np.frombuffer(pixels.rgb, np.uint8)
    return flat.reshape(pixels.height, pixels.width, 3)


def _start(path: Path) -> subprocess.Popen[bytes]:
    """Listens at a path and leaves the socket to a new process, without any of our secrets."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(_BACKLOG)
        return subprocess.Popen(
            [sys.executable, "-m", decode_server.__name__, str(listener.fileno())],
            pass_fds=[listener.fileno()],
            env={"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd=path.parent,
        )
