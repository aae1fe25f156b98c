"""The denoiser stage: two experts, guidance and a solver turn noise into a clip's latents.

The loop is that of `wan/image2video.py` (Robbyant/lingbot-world, 6ca87d4).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.block import ClipCondition
from model.camera import camera_condition
from model.checkpoint.layout import CheckpointPaths
from model.dit import DiT
from model.errors import ConfigurationError
from model.experts import Experts, ExpertSettings, expert_bytes, load_experts
from model.layers import BlockPrompt
from model.parallel.guidance import Guidance, SharedGuidance
from model.parallel.mesh import ParallelMesh
from model.parallel.parallelize import release_weights
from model.parallel.sharding import Sharding, device_memory
from model.scheduler import FlowSolver
from model.types import (
    LATENT_CHANNELS,
    TEMPORAL_STRIDE,
    DenoiseRequest,
    FirstFrame,
    FloatArray,
    Latents,
    SamplerSettings,
    SamplerState,
    Step,
    VideoShape,
)

HOST_MODULATION_BYTES = 2 << 30  # what a CPU rank may spend on kept camera modulations
# A GPU rank may spend half of the memory free after loading: a token's activations are a tenth of
# its modulations in all blocks, so what is left is ample.
GPU_MODULATION_SHARE = 2
_DEFAULTS = ExpertSettings()
_SHARED = SharedGuidance()


@dataclass(frozen=True, slots=True)
class Conditioning:
    """One expert's invariants of one clip."""

    clip: ClipCondition
    prompt: tuple[BlockPrompt, ...]
    negative_prompt: tuple[BlockPrompt, ...]


@dataclass(frozen=True, slots=True)
class _Inputs:
    """A request's arrays as tensors on the device."""

    y_CFhw: Tensor
    camera_CFhw: Tensor | None
    prompt_SC: Tensor
    negative_prompt_SC: Tensor
    image_SC: Tensor | None


class Denoiser:
    """Runs denoise requests one at a time; every rank of a gang runs the same calls.

    Args:
        experts: Loaded DiTs, both on `device`.
        device: Where they are.
        modulation_budget: Bytes per rank for kept camera modulations; equal on all ranks,
            because computing them gathers sharded weights.
        guidance: Which ranks work on which prompt.
    """

    def __init__(
        self,
        experts: Experts,
        device: torch.device,
        modulation_budget: int,
        guidance: Guidance = _SHARED,
    ) -> None:
        self._experts = experts
        self._device = device
        self._modulation_budget = modulation_budget
        self._guidance = guidance
        self._active: DiT | None = None

    @classmethod
    def load(
        cls,
        checkpoint: CheckpointPaths,
        *,
        device: torch.device,
        dtype: torch.dtype,
        mesh: ParallelMesh | None = None,
        settings: ExpertSettings = _DEFAULTS,
    ) -> "Denoiser":
        """Builds both experts on the meta device and reads this rank's part of their weights.

        Args:
            checkpoint: Where the experts lie.
            device: This rank's device.
            dtype: Of weights and matrix products.
            mesh: The gang's ranks; None for one process alone.
            settings: How they compute.

        Raises:
            ConfigurationError: The settings do not fit the checkpoint, the memory or the mesh.
            CheckpointError: The weights do not fit.
        """
        experts = load_experts(checkpoint, settings, device=device, dtype=dtype, mesh=mesh)
        memory = device_memory(device, mesh, settings.memory_share)
        guidance = SharedGuidance() if mesh is None else mesh.guidance()
        return cls(experts, device, modulation_budget(memory, experts), guidance)

    @property
    def experts(self) -> Experts:
        """The two DiTs."""
        return self._experts

    @property
    def needs_image_embeds(self) -> bool:
        """Whether the checkpoint has the image branch and so wants CLIP features."""
        return self._experts.high_noise.config.image_dim is not None

    @torch.no_grad()
    def denoise(self, request: DenoiseRequest) -> Iterator[Step | SamplerState | Latents]:
        """Denoises one clip, or the rest of one.

        Args:
            request: The encoded clip.

        Yields:
            A `Step` when each solver step has finished, a `SamplerState` after every
            `state_every`, the `Latents` last. Every rank yields the same. Closing the generator
            ends the work and frees its memory.

        Raises:
            ConfigurationError: The checkpoint wants CLIP features and there are none, or the
                other way round.
        """
        inputs = self._inputs(request)
        solver = FlowSolver(request.sampler, self._device)
        if request.resume is None:
            first, latent = 0, initial_noise(request.seed, request.shape).to(self._device)
        else:
            first, latent = request.resume.index, solver.restore(request.resume)
        total = request.sampler.num_inference_steps
        expert, conditioning = None, None
        for index, timestep in list(enumerate(solver.timesteps.tolist()))[first:]:
            chosen = self._experts.choose(timestep, request.sampler.boundary_ratio)
            if chosen is not expert or conditioning is None:
                conditioning = None  # free the last expert's before making the next one's
                self._activate(chosen)
                expert, conditioning = chosen, self._condition(chosen, inputs)
            scale = self._guidance_scale(expert, request.sampler)
            flow = self._guided_flow(expert, latent, timestep, conditioning, scale)
            latent = solver.step(flow, index, latent)
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)  # a reported step is a finished one
            yield Step(index + 1, total)
            if request.state_every and (index + 1) % request.state_every == 0 < total - index - 1:
                yield solver.state(index + 1, latent)
        yield Latents(latent.cpu().numpy())

    def _activate(self, expert: DiT) -> None:
        """Has only one expert's weights gathered, from one clip to the next as well."""
        if self._active is not None and self._active is not expert:
            release_weights(self._active)
        self._active = expert

    def _guidance_scale(self, expert: DiT, sampler: SamplerSettings) -> float:
        is_high = expert is self._experts.high_noise
        return sampler.guidance_scale if is_high else sampler.guidance_scale_2

    def _guided_flow(
        self,
        expert: DiT,
        latent_CFhw: Tensor,
        timestep: int,
        conditioning: Conditioning,
        scale: float,
    ) -> Tensor:
        """Classifier-free guidance (arXiv 2207.12598): two passes that differ in the text alone."""
        t = torch.tensor(timestep, device=latent_CFhw.device)
        prompts = (conditioning.prompt, conditioning.negative_prompt)
        cond, uncond = self._guidance.flows(expert, latent_CFhw, t, conditioning.clip, prompts)
        return uncond + scale * (cond - uncond)

    def _inputs(self, request: DenoiseRequest) -> _Inputs:
        if self.needs_image_embeds != (request.image is not None):
            wanted = "needs" if self.needs_image_embeds else "has no use for"
            raise ConfigurationError(f"this checkpoint's DiT {wanted} CLIP image embeddings")
        device = self._device
        return _Inputs(
            y_CFhw=first_frame_condition(request.first_frame).to(device),
            camera_CFhw=None
            if request.camera is None
            else camera_condition(request.camera, request.shape, device=device),
            prompt_SC=_tensor(request.prompt.embeds, device),
            negative_prompt_SC=_tensor(request.negative_prompt.embeds, device),
            image_SC=None if request.image is None else _tensor(request.image.embeds, device),
        )

    def _condition(self, expert: DiT, inputs: _Inputs) -> Conditioning:
        num_tokens = inputs.y_CFhw[0].numel() // 4
        kept_blocks = self._modulation_budget // expert.modulation_bytes(num_tokens)
        return Conditioning(
            clip=expert.condition_clip(inputs.y_CFhw, inputs.camera_CFhw, kept_blocks=kept_blocks),
            prompt=expert.condition_prompt(inputs.prompt_SC, inputs.image_SC),
            negative_prompt=expert.condition_prompt(inputs.negative_prompt_SC, inputs.image_SC),
        )


def modulation_budget(memory_bytes: int | None, experts: Experts) -> int:
    """Bytes that a rank may spend on camera modulations, of its memory left after loading."""
    if memory_bytes is None:
        return HOST_MODULATION_BYTES
    # Only shards are there yet; the active expert will be whole.
    to_come = expert_bytes(experts.high_noise) if experts.sharding is Sharding.PER_EXPERT else 0
    return max(0, memory_bytes - to_come) // GPU_MODULATION_SHARE


def initial_noise(seed: int, shape: VideoShape) -> Tensor:
    """The sample before the first step: float32 [16, f, h, w] on the CPU.

    One generator for every device, so a seed gives the same clip on any hardware.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    size = (LATENT_CHANNELS, shape.latent_frames, shape.latent_height, shape.latent_width)
    return torch.randn(size, dtype=torch.float32, generator=generator)


def first_frame_condition(first_frame: FirstFrame) -> Tensor:
    """Mask and first frame as the DiT takes them: float32 [4 + 16, f, h, w].

    The mask's four channels are 1 in latent frame 0, which shows the image, and 0 after it.
    """
    latent_CFhw = torch.from_numpy(np.array(first_frame.latent))
    mask_CFhw = torch.zeros(TEMPORAL_STRIDE, *latent_CFhw.shape[1:])
    mask_CFhw[:, 0] = 1
    return torch.cat([mask_CFhw, latent_CFhw])


def _tensor(array: FloatArray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.array(array)).to(device)  # a copy: Ray's arrays are read-only
