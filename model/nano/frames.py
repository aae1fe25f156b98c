"""What is measured on clips as people see them: uint8 [N, H, W, 3]."""

import numpy as np
import numpy.typing as npt

from model.nano.clips import Clip, to_bytes
from model.types import UInt8Array


def truth(clip: Clip) -> UInt8Array:
    """The renderer's frames."""
    frames: UInt8Array = to_bytes(clip.pixels_3NHW).cpu().numpy()
    return frames


def psnr(frames: UInt8Array, wanted: UInt8Array) -> float:
    """dB over all pixels of two clips."""
    error = frames.astype(np.float32) - wanted.astype(np.float32)
    return float(10 * np.log10(255**2 / max(float(np.mean(error**2)), 1e-9)))


def late_colours(frames: UInt8Array) -> npt.NDArray[np.float64]:
    """Mean colour of sky and ground halves of the last third: [6], in [0, 1]."""
    late = frames[-len(frames) // 3 :].astype(np.float64) / 255
    middle = late.shape[1] // 2
    halves = (late[:, :middle], late[:, middle:])
    return np.concatenate([half.mean(axis=(0, 1, 2)) for half in halves])
