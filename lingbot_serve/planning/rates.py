"""How long a clip keeps each stage busy: measured where somebody measured it, else predicted."""

import sysconfig
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoscaling.cost import CostModel, latent_tokens
from lingbot_serve.bench.claims import Results
from lingbot_serve.bench.cost_model import row_tokens
from lingbot_serve.bench.forecast import fitted_model, gang_step_s
from lingbot_serve.bench.records import DitRow, Row, VaeRow, read_rows

# One H200 (141 GB), PyTorch 2.11, November 2026, VAE in float32: 81 frames of 832x480, which are
# 21 latent frames. Both grow with the pixels. They hold until `bench vae` has measured.
_VAE_TOKENS = 32_760
_DECODE_S, _ENCODE_S = 2.80, 1.72
# An assumption: two prompts, of which the negative one is remembered.
_TEXT_ENCODE_S = 0.05


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
    vae = _of_gpu(read_rows(folder / "vae.json", VaeRow), gpu)
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
    rows = _of_gpu(read_rows(folder / "dit.json", DitRow), gpu)
    predict, source = _prediction(rows)
    measured = [row for row in rows if row.model == "base-cam" and row.gpus == gang_size]
    if not measured:
        return predict(clip.tokens, gang_size), source
    nearest = min(measured, key=lambda row: abs(row_tokens(row) - clip.tokens))
    tokens = row_tokens(nearest)
    best_s = min(row.step_s for row in measured if row_tokens(row) == tokens)
    where = f"{nearest.gpu}, {nearest.size}, {nearest.frames} frames"
    if tokens == clip.tokens:
        return best_s, f"measured ({where})"
    scaled_s = best_s * predict(clip.tokens, gang_size) / predict(tokens, gang_size)
    return scaled_s, f"scaled from a measurement ({where})"


def _prediction(rows: Sequence[DitRow]) -> tuple[Callable[[int, int], float], str]:
    """Seconds of a step by tokens and GPUs, from what was measured there if that suffices."""
    fitted = fitted_model(Results(dit=list(rows)))
    if fitted is None:
        return CostModel().step_s, "predicted from two forwards that were measured on one H200"
    model, measured = fitted.model, fitted.rows
    source = f"predicted from {len(measured)} forwards that were measured on {measured[0].gpu}"
    return lambda tokens, gpus: gang_step_s(model, gpus, tokens), source


def _vae_s(rows: Sequence[VaeRow], direction: str, default_s: float, clip: ClipSize) -> float:
    measured = [row for row in rows if row.direction == direction]
    if not measured:
        return default_s * clip.tokens / _VAE_TOKENS
    nearest = min(measured, key=lambda row: abs(row_tokens(row) - clip.tokens))
    tokens = row_tokens(nearest)
    best_s = min(row.seconds for row in measured if row_tokens(row) == tokens)
    return best_s * clip.tokens / tokens


def _of_gpu(rows: Iterable[Row], gpu: str) -> list[Row]:
    return [row for row in rows if gpu.lower() in row.gpu.lower()]
