"""One layer of the DiT, in the pieces that lie between its attentions and exchanges.

Shapes and precision: see `model.dit`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.attention import AttentionKernel
from model.config import DiTConfig
from model.layers import BlockPrompt, CrossAttention, SelfAttention, layer_norm_fp32, modulate
from model.parallel.sequence import Exchange, SequenceParallel
from model.rope import RotaryTable


@dataclass(frozen=True, slots=True)
class CameraModulation:
    """Scale (one is added) and shift of one block's tokens, [B, l, D] each."""

    scale: Tensor
    shift: Tensor


@dataclass(frozen=True, slots=True)
class ClipCondition:
    """What stays the same over a clip's forwards, conditional and unconditional alike.

    Args:
        y_CFhw: Mask and first frame, [20, F, h, w].
        rope: Angles of this rank's tokens.
        camera_BlD: Embedded camera of this rank's tokens, or None without a camera.
        modulations: One per block, of as many blocks as memory allows.
    """

    y_CFhw: Tensor
    rope: RotaryTable
    camera_BlD: Tensor | None
    modulations: tuple[CameraModulation, ...]

    def kept(self, index: int) -> CameraModulation | None:
        """Those of a block, or None if they are not kept."""
        return self.modulations[index] if index < len(self.modulations) else None


class Block(nn.Module):
    """Self-attention, camera, cross-attention and feed-forward, in the published order."""

    def __init__(
        self,
        config: DiTConfig,
        sequence: SequenceParallel,
        attention: AttentionKernel,
        stages: "BlockStages",
    ) -> None:
        super().__init__()
        dim = config.dim
        self._stages = stages
        self.modulation = nn.Parameter(torch.zeros(1, 6, dim))
        self.norm1 = nn.LayerNorm(dim, config.eps, elementwise_affine=False)
        self.self_attn = SelfAttention(config, sequence, attention)
        self.cam_injector_layer1 = nn.Linear(dim, dim)
        self.cam_injector_layer2 = nn.Linear(dim, dim)
        self.cam_scale_layer = nn.Linear(dim, dim)
        self.cam_shift_layer = nn.Linear(dim, dim)
        self.norm3 = nn.LayerNorm(dim, config.eps)
        self.cross_attn = CrossAttention(config, attention)
        self.norm2 = nn.LayerNorm(dim, config.eps, elementwise_affine=False)
        self.ffn = nn.Sequential(
            nn.Linear(dim, config.ffn_dim), nn.GELU("tanh"), nn.Linear(config.ffn_dim, dim)
        )

    def condition_prompt(self, text_BSD: Tensor, image_BSD: Tensor | None) -> BlockPrompt:
        """This block's view of a prompt."""
        return self.cross_attn.condition(text_BSD, image_BSD)

    def condition_camera(self, camera_BlD: Tensor) -> CameraModulation:
        """This block's view of the camera."""
        return self._stages.modulate_camera(self, camera_BlD)

    def forward(
        self,
        tokens: Sequence[Tensor],
        time_B6D: Tensor,
        clip: ClipCondition,
        modulation: CameraModulation | None,
        prompts: Sequence[BlockPrompt],
        num_tokens: int,
    ) -> list[Tensor]:
        """One layer for several prompts, each with tokens of its own or all with the same.

        Branch after branch at each stage, so that one's exchange goes on behind another's matrix
        products, but never behind an attention. That fills its GPU: on a rank that begins it first
        the exchange would wait for its end, and on the others hold up the attention as long.
        """
        modulation = self.camera_modulation(clip, modulation)
        sent = [self.send(x_BlD, time_B6D, clip) for x_BlD in tokens]
        arrived = [exchange.wait() for exchange in sent]
        del sent
        attended = [self.self_attn.attend(qkv, num_tokens) for qkv in arrived]
        del arrived
        backs = [self.self_attn.send_back(out_BLnH) for out_BLnH in attended]
        del attended
        middle = [
            self.receive(x_BlD, back, time_B6D, modulation)
            for x_BlD, back in zip(tokens, backs, strict=True)
        ]
        del backs
        if len(middle) < len(prompts):  # until here no prompt has had any influence
            middle = middle * len(prompts)
        return [
            self.finish(*each, time_B6D, prompt)
            for each, prompt in zip(middle, prompts, strict=True)
        ]

    def camera_modulation(
        self, clip: ClipCondition, kept: CameraModulation | None
    ) -> CameraModulation | None:
        """The camera's scale and shift: kept, computed now, or None without a camera."""
        if clip.camera_BlD is None or kept is not None:
            return kept
        return self._stages.modulate_camera(self, clip.camera_BlD)

    def send(self, x_BlD: Tensor, time_B6D: Tensor, clip: ClipCondition) -> Exchange:
        """One prompt's queries, keys and values, on their way to the self-attention."""
        return self.self_attn.send(self._stages.before_attention(self, x_BlD, time_B6D, clip.rope))

    def receive(
        self,
        x_BlD: Tensor,
        back: Exchange,
        time_B6D: Tensor,
        modulation: CameraModulation | None,
    ) -> tuple[Tensor, Tensor]:
        """What came back, in the residual stream; and the queries of the cross-attention."""
        return self._stages.between(self, x_BlD, back.wait(), time_B6D, modulation)

    def finish(
        self, x_BlD: Tensor, q_BlNH: Tensor, time_B6D: Tensor, prompt: BlockPrompt
    ) -> Tensor:
        """The rest of the layer: cross-attention and feed-forward."""
        out_BlNH = self.cross_attn.attend(q_BlNH, prompt)
        return self._stages.after_attention(self, x_BlD, out_BlNH, time_B6D)

    def before_attention(
        self, x_BlD: Tensor, time_B6D: Tensor, rope: RotaryTable
    ) -> tuple[Tensor, ...]:
        """Norm, modulation, queries, keys and values of the self-attention."""
        shift, scale, *_ = self._time_modulation(time_B6D)
        return self.self_attn.project_in(
            self._cast(modulate(self.norm1(x_BlD), shift, scale)), rope
        )

    def between(
        self,
        x_BlD: Tensor,
        received: tuple[Tensor, ...],
        time_B6D: Tensor,
        camera: CameraModulation | None,
    ) -> tuple[Tensor, Tensor]:
        """From the self-attention's output to the residual stream and the cross-attention's q."""
        gate = self._time_modulation(time_B6D)[2]
        x_BlD = x_BlD + self.self_attn.project_out(received) * gate
        if camera is not None:
            x_BlD = modulate(x_BlD, camera.shift, camera.scale)
        return x_BlD, self.cross_attn.query(self._cast(layer_norm_fp32(x_BlD, self.norm3)))

    def after_attention(self, x_BlD: Tensor, out_BlNH: Tensor, time_B6D: Tensor) -> Tensor:
        """From the cross-attention's output to the next block."""
        shift, scale, gate = self._time_modulation(time_B6D)[3:]
        x_BlD = x_BlD + self.cross_attn.project_out(out_BlNH)
        hidden = self.ffn(self._cast(modulate(self.norm2(x_BlD), shift, scale)))
        result: Tensor = x_BlD + hidden * gate
        return result

    def modulate_camera(self, camera_BlD: Tensor) -> CameraModulation:
        """The camera's scale and shift, from its embedding."""
        hidden = F.silu(self.cam_injector_layer1(camera_BlD))
        hidden = self.cam_injector_layer2(hidden) + camera_BlD
        return CameraModulation(self.cam_scale_layer(hidden), self.cam_shift_layer(hidden))

    def _time_modulation(self, time_B6D: Tensor) -> tuple[Tensor, ...]:
        """Shift, scale and gate of the self-attention, then of the feed-forward: [B, 1, D]."""
        return (self.modulation.float() + time_B6D).unsqueeze(2).unbind(1)

    def _cast(self, x_BlD: Tensor) -> Tensor:
        return x_BlD.to(self.self_attn.q.weight.dtype)


@dataclass(frozen=True, slots=True)
class BlockStages:
    """A block's work between its attentions and exchanges, as it runs: plain or compiled.

    Each takes the block first, so that all blocks share one compilation.
    """

    before_attention: Callable[[Block, Tensor, Tensor, RotaryTable], tuple[Tensor, ...]]
    between: Callable[..., tuple[Tensor, Tensor]]
    after_attention: Callable[[Block, Tensor, Tensor, Tensor], Tensor]
    modulate_camera: Callable[[Block, Tensor], CameraModulation]


EAGER = BlockStages(
    Block.before_attention, Block.between, Block.after_attention, Block.modulate_camera
)
