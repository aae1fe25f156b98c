"""What travels between the stages: small frozen values, numpy arrays inside.

Arrays are numpy, not torch, because Ray moves them between processes without a copy
(they arrive read-only). Everything is float32 unless said otherwise.
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
UInt8Array = npt.NDArray[np.uint8]

FPS = 16
TEMPORAL_STRIDE = 4
SPATIAL_STRIDE = 8
LATENT_CHANNELS = 16
NUM_TRAIN_TIMESTEPS = 1000  # what a noise level of 1 is called when the DiT is told of it
PATCH_SIZE = 2  # the DiT folds 2x2 latent pixels into one token


class Solver(str, Enum):
    """The two published samplers."""

    UNIPC = "unipc"
    DPMPP = "dpm++"


@dataclass(frozen=True, slots=True)
class DenoiserFacts:
    """What a denoiser chose or was told at its start, for logs, `/readyz` and metrics.

    Args:
        attention: The kernel in use.
        sharding: How long a rank holds weights that are not its own.
        compiled: Whether the blocks run through torch.compile.
        cfg_parallel: Whether each half of the gang works on one branch of guidance.
        ranks: Size of the gang.
        ulysses_degree: Ranks that share the tokens of a clip.
        dtype: Of weights and matrix products.
        load_s: Seconds that the weights took.
        warm_up_s: Seconds of the first clip, with compilation.
        start_s: Seconds from nothing until it could denoise, those two and all imports included;
            None where a rank tells, which does not know.
    """

    attention: str
    sharding: str
    compiled: bool
    cfg_parallel: bool
    ranks: int
    ulysses_degree: int
    dtype: str
    load_s: float
    warm_up_s: float
    start_s: float | None = None


@dataclass(frozen=True, slots=True)
class VideoShape:
    """Size of one clip in pixels; latent sizes follow from the VAE's strides.

    Args:
        num_frames: Pixel frames, 4n+1.
        height: Pixels, a multiple of 16.
        width: Pixels, a multiple of 16.
    """

    num_frames: int
    height: int
    width: int

    @property
    def seconds(self) -> float:
        """How long the clip plays."""
        return self.num_frames / FPS

    @property
    def latent_frames(self) -> int:
        return (self.num_frames - 1) // TEMPORAL_STRIDE + 1

    @property
    def latent_height(self) -> int:
        return self.height // SPATIAL_STRIDE

    @property
    def latent_width(self) -> int:
        return self.width // SPATIAL_STRIDE

    @property
    def num_tokens(self) -> int:
        """Tokens that the DiT makes of the clip's latents."""
        return (
            self.latent_frames
            * (self.latent_height // PATCH_SIZE)
            * (self.latent_width // PATCH_SIZE)
        )


@dataclass(frozen=True, slots=True)
class TextEmbeds:
    """One prompt as the DiT takes it: [L, text_dim], L its true token count (at most 512)."""

    embeds: FloatArray


@dataclass(frozen=True, slots=True)
class ImageEmbeds:
    """CLIP features of the first frame: [257, 1280], one class token and 256 patches."""

    embeds: FloatArray


@dataclass(frozen=True, slots=True)
class FirstFrame:
    """The first frame and the grey frames after it, through the VAE: [16, f, h, w], normalised."""

    latent: FloatArray


@dataclass(frozen=True, slots=True)
class CameraPath:
    """Where the camera is at each pixel frame.

    Args:
        poses: Camera-to-world matrices [N, 4, 4], OpenCV axes (x right, y down, z forward).
        intrinsics: fx, fy, cx, cy in pixels of an 832x480 image, [N, 4]; only row 0 is used.
    """

    poses: npt.NDArray[np.floating]
    intrinsics: npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class SamplerSettings:
    """How the noise is removed.

    Args:
        num_inference_steps: Solver steps; each costs two forwards.
        guidance_scale: Classifier-free guidance of the high-noise expert.
        guidance_scale_2: Classifier-free guidance of the low-noise expert.
        flow_shift: Shift of the sigma schedule.
        boundary_ratio: Timesteps at or above 1000 times this run the high-noise expert.
        solver: Which published sampler.
    """

    num_inference_steps: int = 70
    guidance_scale: float = 5.0
    guidance_scale_2: float = 5.0
    flow_shift: float = 10.0
    boundary_ratio: float = 0.947
    solver: Solver = Solver.UNIPC


@dataclass(frozen=True, slots=True)
class SamplerState:
    """A denoise between two steps: all that it takes to go on as if it had never stopped.

    Args:
        index: Steps that are finished.
        sample: What they made of the noise, float32 [16, f, h, w].
        history: What the solver remembers of them, by its names for it.
        counters: The solver's own counts, likewise.
    """

    index: int
    sample: FloatArray
    history: dict[str, FloatArray]
    counters: dict[str, int]


@dataclass(frozen=True, slots=True)
class DenoiseRequest:
    """Everything the DiT needs for one clip, already encoded.

    Without a camera the injection is skipped, as the published code does.

    Args:
        prompt: What to show.
        negative_prompt: What not to show.
        first_frame: Latent condition.
        image: CLIP features where the checkpoint takes them.
        camera: Where the camera goes.
        shape: Size of the clip.
        sampler: How the noise is removed.
        seed: Of the initial noise.
        resume: Where an earlier denoise of the same request stopped; None: begin with noise.
        state_every: Steps between two `SamplerState`s; 0: none.
    """

    prompt: TextEmbeds
    negative_prompt: TextEmbeds
    first_frame: FirstFrame
    image: ImageEmbeds | None
    camera: CameraPath | None
    shape: VideoShape
    sampler: SamplerSettings
    seed: int
    resume: SamplerState | None = None
    state_every: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """Progress: `index` of `total` steps are finished."""

    index: int
    total: int


@dataclass(frozen=True, slots=True)
class Latents:
    """A denoised clip in latent space.

    Args:
        values: [16, f, h, w].
        made_by: The denoiser that made it, where that is known.
    """

    values: FloatArray
    made_by: DenoiserFacts | None = None


@dataclass(frozen=True, slots=True)
class Frames:
    """Some consecutive decoded frames: uint8 [t, H, W, 3], RGB."""

    pixels: UInt8Array
