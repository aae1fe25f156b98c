"""MP4 files that browsers play."""

import io

import av
import numpy as np

from deployments.video import Mp4Writer


def moving_square(num_frames: int, height: int, width: int) -> np.ndarray:
    frames = np.full((num_frames, height, width, 3), 40, np.uint8)
    for index in range(num_frames):
        frames[index, 16:32, 4 * index : 4 * index + 16] = 220
    return frames


def test_frames_survive_the_file() -> None:
    frames = moving_square(9, 64, 96)
    frames.flags.writeable = False
    writer = Mp4Writer(height=64, width=96)
    writer.write(frames[:1])
    writer.write(frames[1:])
    mp4 = writer.finish()
    assert mp4.index(b"moov") < mp4.index(b"mdat"), "the index must come first"
    with av.open(io.BytesIO(mp4)) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 16
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(stream)])
    assert decoded.shape == frames.shape
    assert np.abs(decoded.astype(int) - frames).mean() < 3
