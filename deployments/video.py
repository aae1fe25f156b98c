"""Frames to MP4, while the frames still arrive."""

import tempfile
from fractions import Fraction
from pathlib import Path

import av

from model.types import FPS, UInt8Array

# imageio's quality 8 of 10, which the published code asks for, is x264's quantiser 10; the
# constant rate factor of that number looks alike and spends the bits where they are seen.
_RATE_FACTOR = "10"


class Mp4Writer:
    """Encodes one clip: H.264, yuv420p, 16 fps, index before data.

    Args:
        height: Of the frames, pixels, even.
        width: Of the frames, pixels, even.
        num_threads: x264 threads; 0 lets it choose.
    """

    def __init__(self, *, height: int, width: int, num_threads: int = 0) -> None:
        # A file, not memory: ffmpeg moves the index to the front by opening the file again.
        self._folder = tempfile.TemporaryDirectory(prefix="lingbot-mp4-")
        self._path = Path(self._folder.name) / "video.mp4"
        self._container = av.open(str(self._path), "w", options={"movflags": "+faststart"})
        self._stream = self._container.add_stream("libx264", rate=FPS)
        self._stream.height, self._stream.width = height, width
        self._stream.pix_fmt = "yuv420p"
        self._stream.time_base = Fraction(1, FPS)
        self._stream.codec_context.thread_count = num_threads
        self._stream.options = {"crf": _RATE_FACTOR, "preset": "medium"}
        self._num_frames = 0

    def write(self, pixels: UInt8Array) -> None:
        """Appends frames.

        Args:
            pixels: Uint8 [t, H, W, 3], RGB.
        """
        for image in pixels:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = self._num_frames
            self._num_frames += 1
            self._container.mux(self._stream.encode(frame))

    def finish(self) -> bytes:
        """Returns the whole file; nothing may be written after."""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        mp4 = self._path.read_bytes()
        self._folder.cleanup()
        return mp4
