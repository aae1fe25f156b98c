"""How long a clip keeps each stage busy: measured where somebody measured it, else predicted."""

import json
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoscaling.cost import CostModel, latent_tokens
from model.errors import ConfigurationError

# One H200 (141 GB), PyTorch 2.11, November 2026, VAE in float32: 81 frames of 832x480, which are
# 21 latent frames. Both grow with the pixels. They hold until `bench vae` has measured.
_VAE_TOKENS = 32_760
_DECODE_S, _ENCODE_S = 2.80, 1.72
# An assumption: two prompts, of which the negative one is remembered.
_TEXT_ENCODE_S = 0.05

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ClipTimes:
    """Seconds that one clip takes of each stage, and where the longest of them is from.

    Args:
        step_s: Of a solver step on the gang: both forwards.
        denoise_s: All steps.
        vae_encode_s: On one GPU.
        vae_decode_s: On one GPU.
        text_encode_s: On one GPU.
        source: Where `step_s` is from.
    """

    step_s: float
    denoise_s: float
    vae_encode_s: float
    vae_decode_s: float
    text_encode_s: float
    source: str

    @property
    def alone_s(self) -> float:
        """A clip that waits for nobody; the encoders work side by side."""
        return max(self.vae_encode_s, self.text_encode_s) + self.denoise_s + self.vae_decode_s


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSize:
    """What is asked for.

    Args:
        width: Pixels.
        height: Pixels.
        num_frames: Pixel frames.
        num_steps: Solver steps.
    """

    width: int
    height: int
    num_frames: int
    num_steps: int

    @property
    def tokens(self) -> int:
        return latent_tokens(self.num_frames, self.height, self.width)


def benchmark_folder() -> Path:
    """Where the committed benchmarks are: in the repository, or where the wheel put them."""
    repository = Path(__file__).resolve().parents[2] / "docs/benchmarks"
    installed = Path(sysconfig.get_path("data")) / "share/lingbot-serve/benchmarks"
    return repository if repository.is_dir() else installed


def clip_times(clip: ClipSize, *, gang_size: int, gpu: str, folder: Path) -> ClipTimes:
    """Reads or predicts what a clip takes.

    Args:
        clip: Its size.
        gang_size: GPUs of a gang.
        gpu: Part of the name of the GPUs that were measured, such as "H200".
        folder: With the JSON files of `lingbot-serve bench`.

    Raises:
        ConfigurationError: A file holds something else.
    """
    step_s, source = _step_s(clip, gang_size, gpu, folder)
    vae = _rows(folder / "vae.json", gpu)
    return ClipTimes(
        step_s=step_s,
        denoise_s=step_s * clip.num_steps,
        vae_encode_s=_vae_s(vae, "encode", _ENCODE_S, clip),
        vae_decode_s=_vae_s(vae, "decode", _DECODE_S, clip),
        text_encode_s=_TEXT_ENCODE_S,
        source=source,
    )


def _step_s(clip: ClipSize, gang_size: int, gpu: str, folder: Path) -> tuple[float, str]:
    """The fastest measured step of this gang, scaled by the model from the nearest size."""
    model = CostModel()
    predicted_s = model.step_s(clip.tokens, gang_size)
    measured = [
        row
        for row in _rows(folder / "dit.json", gpu)
        if row["model"] == "base-cam" and row["gpus"] == gang_size
    ]
    if not measured:
        return predicted_s, "predicted from two forwards that were measured on one H200"
    nearest = min(measured, key=lambda row: abs(_tokens(row) - clip.tokens))
    same = [row for row in measured if _tokens(row) == _tokens(nearest)]
    tokens, best_s = _tokens(nearest), min(map(_pair_s, same))
    where = f"{nearest['gpu']}, {nearest['size']}, {nearest['frames']} frames"
    if tokens == clip.tokens:
        return best_s, f"measured ({where})"
    scaled_s = best_s * predicted_s / model.step_s(tokens, gang_size)
    return scaled_s, f"scaled from a measurement ({where})"


def _pair_s(row: Row) -> float:
    """A solver step: both prompts in one pass where that was measured, else one after the other."""
    return float(row["pair_seconds"] or 2 * row["seconds"])


def _vae_s(rows: list[Row], direction: str, default_s: float, clip: ClipSize) -> float:
    measured = [row for row in rows if row["direction"] == direction]
    if not measured:
        return default_s * clip.tokens / _VAE_TOKENS
    nearest = min(measured, key=lambda row: abs(_tokens(row) - clip.tokens))
    same = [float(row["seconds"]) for row in measured if _tokens(row) == _tokens(nearest)]
    return min(same) * clip.tokens / _tokens(nearest)


def _tokens(row: Row) -> int:
    # A size is named height first or width first; the area is the same.
    first, second = (int(side) for side in str(row["size"]).split("x"))
    return latent_tokens(int(row["frames"]), first, second)


def _rows(path: Path, gpu: str) -> list[Row]:
    """Rows of a kind of GPU; none where nothing was measured yet."""
    if not path.exists():
        return []
    try:
        rows: list[Row] = json.loads(path.read_text())["rows"]
        return [row for row in rows if gpu.lower() in str(row["gpu"]).lower()]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{path} holds no benchmark rows: {error!r}") from error
