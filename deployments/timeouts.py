"""How long the stages may take before a clip is taken from them."""

from dataclasses import dataclass, field

from deployments.messages import Stage


@dataclass(frozen=True, slots=True)
class DenoiseTimeouts:
    """How long a clip may wait at the gangs.

    Args:
        queue_s: For a gang that takes it.
        first_step_s: For the first step there; the gang's owner has a shorter bound of its own.
        step_s: For each further step, and the latents; likewise.
    """

    queue_s: float = 4 * 3600.0
    first_step_s: float = 330.0
    step_s: float = 150.0

    def after(self, num_items: int) -> float:
        """How long the next item may take: the first says that a gang has begun."""
        return (self.queue_s, self.first_step_s)[num_items] if num_items < 2 else self.step_s


@dataclass(frozen=True, slots=True)
class StageTimeouts:
    """How long the stages may take before a clip is taken from them.

    Args:
        text_encoder_s: For an answer.
        image_encoder_s: For an answer.
        vae_encoder_s: For an answer.
        denoiser: At the gangs.
        vae_decoder_s: Until the next part of the clip, the wait for its turn included.
    """

    text_encoder_s: float = 600.0
    image_encoder_s: float = 600.0
    vae_encoder_s: float = 600.0
    denoiser: DenoiseTimeouts = field(default_factory=DenoiseTimeouts)
    vae_decoder_s: float = 1800.0

    def answer_s(self, encoder: Stage) -> float:
        """Of one of the encoders."""
        by_stage = {
            Stage.TEXT_ENCODER: self.text_encoder_s,
            Stage.IMAGE_ENCODER: self.image_encoder_s,
            Stage.VAE_ENCODER: self.vae_encoder_s,
        }
        return by_stage[encoder]
