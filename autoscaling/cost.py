"""What a clip costs: GPU-seconds predicted from its size, corrected by measured steps."""

import math
from dataclasses import dataclass, replace

PIXELS_PER_TOKEN_EDGE = 16  # the VAE's stride of 8 and the DiT's patches of 2
FRAMES_PER_LATENT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModel:
    """FLOPs of a DiT forward and how fast GPUs do them; the defaults are LingBot-World-Base (Cam).

    The rates are those of bf16 matrix products and of cuDNN's attention on an H200. `efficiency`
    was chosen so that both forwards measured there (4.38 s at 81 and 11.48 s at 161 frames of
    832x480) are met within 6 %: norms, casts and copies take the rest.

    Args:
        linear_flops_per_token: FLOPs of all matrix products with weights, per token.
        attention_flops_per_pair: FLOPs of attention per pair of tokens, all layers.
        text_tokens: Keys that the cross-attention sees.
        forwards_per_step: Two: with the prompt and with the negative prompt.
        linear_flops_per_s: Rate of one GPU in matrix products.
        attention_flops_per_s: Rate of one GPU in attention.
        efficiency: Share of a forward that these two take, in (0, 1].
        efficiency_per_doubling: What is kept when a gang doubles its GPUs, in (0, 1].
    """

    linear_flops_per_token: float = 32.3e9
    attention_flops_per_pair: float = 4.0 * 5120 * 40
    text_tokens: int = 512
    forwards_per_step: int = 2
    linear_flops_per_s: float = 650e12
    attention_flops_per_s: float = 575e12
    efficiency: float = 0.75
    efficiency_per_doubling: float = 0.98

    def __post_init__(self) -> None:
        for name in ("efficiency", "efficiency_per_doubling"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in (0, 1], not {getattr(self, name)}")
        for name in ("linear_flops_per_s", "attention_flops_per_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")

    def linear_flops(self, latent_tokens: int) -> float:
        """FLOPs of one forward's matrix products with weights."""
        return self.linear_flops_per_token * latent_tokens

    def attention_flops(self, latent_tokens: int) -> float:
        """FLOPs of one forward's self- and cross-attention."""
        pairs = latent_tokens * (latent_tokens + self.text_tokens)
        return self.attention_flops_per_pair * pairs

    def step_s(self, latent_tokens: int, gang_size: int) -> float:
        """Seconds of one solver step on a gang.

        Args:
            latent_tokens: Tokens of the clip, see `latent_tokens`.
            gang_size: GPUs that share them.
        """
        one_gpu_s = (
            self.linear_flops(latent_tokens) / self.linear_flops_per_s
            + self.attention_flops(latent_tokens) / self.attention_flops_per_s
        ) / self.efficiency
        kept = math.pow(self.efficiency_per_doubling, math.log2(gang_size))
        return self.forwards_per_step * one_gpu_s / (gang_size * kept)

    def clip_gpu_s(self, latent_tokens: int, num_steps: int, gang_size: int) -> float:
        """GPU-seconds of a whole clip's denoising: seconds on the gang times its GPUs."""
        return num_steps * self.step_s(latent_tokens, gang_size) * gang_size


def latent_tokens(num_frames: int, height: int, width: int) -> int:
    """Tokens of a clip, from its pixels: one per 16x16 pixels and latent frame."""
    latent_frames = (num_frames - 1) // FRAMES_PER_LATENT + 1
    return latent_frames * (height // PIXELS_PER_TOKEN_EDGE) * (width // PIXELS_PER_TOKEN_EDGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimeCorrection:
    """Measured over predicted step time, learned as an exponentially weighted geometric mean.

    Geometric, so that one step ten times too slow (the first, which warms up) weighs no more than
    one ten times too fast. The first few weigh alike, as what was assumed before them counts for
    nothing: another model or another GPU may be a thousand times faster.

    Args:
        factor: Multiplies the prediction.
        weight: Of the newest step once there are many, in (0, 1].
        num_learned: Steps so far.
    """

    factor: float = 1.0
    weight: float = 0.1
    num_learned: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 1:
            raise ValueError(f"weight must lie in (0, 1], not {self.weight}")

    def learned(self, *, predicted_s: float, measured_s: float) -> "StepTimeCorrection":
        """The correction after one more step.

        Args:
            predicted_s: What the cost model said, not corrected.
            measured_s: What the step took.

        Raises:
            ValueError: A duration is not positive.
        """
        if predicted_s <= 0 or measured_s <= 0:
            raise ValueError(f"step times must be positive: {predicted_s} s, {measured_s} s")
        number = self.num_learned + 1
        weight = max(self.weight, 1 / number)
        kept = (1 - weight) * math.log(self.factor)
        factor = math.exp(kept + weight * math.log(measured_s / predicted_s))
        return replace(self, factor=factor, num_learned=number)
