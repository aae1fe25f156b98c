"""The world model: Wan2.2's DiT with LingBot-World's camera injection, one expert of the two.

One forward serves one rank or many: tokens are split and joined by the `SequenceParallel` object
that the model is built with. Module names are those of the published checkpoint, so its keys need
no map. The maths follows `wan/modules/model.py` (Robbyant/lingbot-world, 6ca87d4); the image
branch follows Wan2.1's (Wan-Video/Wan2.1, 9737cba).

Shapes: B batch (always 1), L tokens of the clip, l tokens on this rank, D width, N heads, H head
size, S context rows, C channels, F latent frames, h and w latent pixels.

Precision: the residual stream, norms, modulation, timestep and head are float32 whatever the
weights are; matrix products and attention run in the dtype of the weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.attention import AttentionKernel
from model.config import DiTConfig
from model.layers import (
    BlockPrompt,
    CrossAttention,
    SelfAttention,
    layer_norm_fp32,
    linear_fp32,
    modulate,
)
from model.parallel.sequence import SequenceParallel
from model.patches import PATCH, patchify, unpatchify
from model.rope import RotaryTable, rotary_table


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
        modulations: One per block where memory allowed to keep them, else empty.
    """

    y_CFhw: Tensor
    rope: RotaryTable
    camera_BlD: Tensor | None
    modulations: tuple[CameraModulation, ...]


class Block(nn.Module):
    """Self-attention, camera, cross-attention and feed-forward, in the published order."""

    def __init__(
        self, config: DiTConfig, sequence: SequenceParallel, attention: AttentionKernel
    ) -> None:
        super().__init__()
        dim = config.dim
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
        return self._modulate_camera(camera_BlD)

    # Apart from its public form, after which FSDP takes the block's weights away: the forward
    # still needs them.
    def _modulate_camera(self, camera_BlD: Tensor) -> CameraModulation:
        hidden = F.silu(self.cam_injector_layer1(camera_BlD))
        hidden = self.cam_injector_layer2(hidden) + camera_BlD
        return CameraModulation(self.cam_scale_layer(hidden), self.cam_shift_layer(hidden))

    def forward(
        self,
        x_BlD: Tensor,
        time_B6D: Tensor,
        clip: ClipCondition,
        modulation: CameraModulation | None,
        prompt: BlockPrompt,
        num_tokens: int,
    ) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = (
            (self.modulation.float() + time_B6D).unsqueeze(2).unbind(1)
        )
        dtype = self.self_attn.q.weight.dtype

        normed = modulate(self.norm1(x_BlD), shift1, scale1).to(dtype)
        x_BlD = x_BlD + self.self_attn(normed, clip.rope, num_tokens) * gate1

        if clip.camera_BlD is not None:
            camera = modulation or self._modulate_camera(clip.camera_BlD)
            x_BlD = modulate(x_BlD, camera.shift, camera.scale)

        normed = layer_norm_fp32(x_BlD, self.norm3).to(dtype)
        x_BlD = x_BlD + self.cross_attn(normed, prompt)

        normed = modulate(self.norm2(x_BlD), shift2, scale2).to(dtype)
        x_BlD = x_BlD + self.ffn(normed) * gate2
        return x_BlD


class Head(nn.Module):
    """From tokens to latent patches, in float32."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.modulation = nn.Parameter(torch.zeros(1, 2, config.dim))
        self.norm = nn.LayerNorm(config.dim, config.eps, elementwise_affine=False)
        self.head = nn.Linear(config.dim, config.out_dim * PATCH[1] * PATCH[2])

    def forward(self, x_BlD: Tensor, time_BD: Tensor) -> Tensor:
        shift, scale = (self.modulation.float() + time_BD.unsqueeze(1)).unsqueeze(2).unbind(1)
        return linear_fp32(modulate(self.norm(x_BlD), shift, scale), self.head)


class ImageEmbedding(nn.Module):
    """CLIP features to the DiT's width; the keys are Wan2.1's `img_emb.proj`."""

    def __init__(self, image_dim: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(
            nn.LayerNorm(image_dim),
            nn.Linear(image_dim, image_dim),
            nn.GELU(),
            nn.Linear(image_dim, dim),
            nn.LayerNorm(dim),
        )

    def forward(self, image_BSC: Tensor) -> Tensor:
        embedded: Tensor = self.proj(image_BSC)
        return embedded


class DiT(nn.Module):
    """One expert: predicts the flow of a noisy latent at a timestep.

    Args:
        config: Sizes.
        sequence: How tokens are split over ranks; `NoSequenceParallel` on one.
        attention: The attention kernel.
    """

    def __init__(
        self, config: DiTConfig, *, sequence: SequenceParallel, attention: AttentionKernel
    ) -> None:
        super().__init__()
        dim, patch = config.dim, PATCH[1] * PATCH[2]
        self.config = config
        self.patch_embedding = nn.Conv3d(config.in_dim, dim, PATCH, PATCH)
        self.patch_embedding_wancamctrl = nn.Linear(config.camera_dim * patch, dim)
        self.c2ws_hidden_states_layer1 = nn.Linear(dim, dim)
        self.c2ws_hidden_states_layer2 = nn.Linear(dim, dim)
        self.text_embedding = nn.Sequential(
            nn.Linear(config.text_dim, dim), nn.GELU("tanh"), nn.Linear(dim, dim)
        )
        self.time_embedding = nn.Sequential(
            nn.Linear(config.freq_dim, dim), nn.SiLU(), nn.Linear(dim, dim)
        )
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(dim, dim * 6))
        if config.image_dim is not None:
            self.img_emb = ImageEmbedding(config.image_dim, dim)
        blocks = [Block(config, sequence, attention) for _ in range(config.num_layers)]
        self.blocks = cast("Sequence[Block]", nn.ModuleList(blocks))
        self.head = Head(config)
        self._sequence = sequence

    def modulation_bytes(self, num_tokens: int) -> int:
        """What this rank spends on keeping every block's scale and shift for a clip."""
        local_tokens = -(-num_tokens // self._sequence.size)
        element = self.blocks[0].cam_scale_layer.weight.element_size()
        return 2 * local_tokens * self.config.dim * element * len(self.blocks)

    def condition_clip(
        self, y_CFhw: Tensor, camera_CFhw: Tensor | None, *, keep_modulations: bool
    ) -> ClipCondition:
        """Computes once what a clip's forwards share.

        Args:
            y_CFhw: Mask and first frame, float32 [20, F, h, w].
            camera_CFhw: Folded rays, float32 [384, F, h, w], or None to skip the injection.
            keep_modulations: Keep every block's scale and shift: 2*l*D values a block.
        """
        frames, height, width = y_CFhw.shape[1:]
        grid = (frames, height // PATCH[1], width // PATCH[2])
        rope = self._local_rope(grid, y_CFhw.device)
        if camera_CFhw is None:
            return ClipCondition(y_CFhw, rope, None, ())
        camera_BlD = self._embed_camera(camera_CFhw)
        kept = self.blocks if keep_modulations else ()
        modulations = tuple(block.condition_camera(camera_BlD) for block in kept)
        return ClipCondition(y_CFhw, rope, camera_BlD, modulations)

    def condition_prompt(self, text_SC: Tensor, image_SC: Tensor | None) -> tuple[BlockPrompt, ...]:
        """Computes once what all forwards of a prompt share, one entry per block.

        Args:
            text_SC: T5 rows at their true length; padded here to `text_len` zero rows, which the
                published model attends like any other.
            image_SC: CLIP rows, for a model with the image branch.
        """
        dtype = self.patch_embedding.weight.dtype
        padding = self.config.text_len - text_SC.shape[0]
        text_BSC = F.pad(text_SC.to(dtype), (0, 0, 0, padding)).unsqueeze(0)
        text_BSD = self.text_embedding(text_BSC)
        image_BSD = None if image_SC is None else self.img_emb(image_SC.to(dtype).unsqueeze(0))
        return tuple(block.condition_prompt(text_BSD, image_BSD) for block in self.blocks)

    def forward(
        self,
        latent_CFhw: Tensor,
        timestep: Tensor,
        clip: ClipCondition,
        prompt: tuple[BlockPrompt, ...],
    ) -> Tensor:
        """One pass.

        Args:
            latent_CFhw: Noisy sample, float32 [16, F, h, w].
            timestep: Scalar; one row of modulation serves every token.
            clip: From `condition_clip`.
            prompt: From `condition_prompt`.

        Returns:
            Predicted flow, float32 [16, F, h, w], the same on every rank.
        """
        time_BD, time_B6D = self._embed_timestep(timestep)
        patches_BLC = patchify(torch.cat([latent_CFhw, clip.y_CFhw]))
        num_tokens = patches_BLC.shape[1]
        x_BlD = self._embed_patches(self._sequence.shard(patches_BLC))
        modulations = clip.modulations or (None,) * len(self.blocks)
        for block, modulation, block_prompt in zip(self.blocks, modulations, prompt, strict=True):
            x_BlD = block(x_BlD, time_B6D, clip, modulation, block_prompt, num_tokens)
        patches_BLC = self._sequence.gather(self.head(x_BlD, time_BD), num_tokens)
        return unpatchify(patches_BLC, latent_CFhw.shape)

    def _embed_patches(self, patches_BlC: Tensor) -> Tensor:
        weight = self.patch_embedding.weight  # a convolution whose kernel is its stride
        flat = weight.flatten(1)
        embedded = F.linear(patches_BlC.to(weight.dtype), flat, self.patch_embedding.bias)
        return embedded.float()

    def _embed_camera(self, camera_CFhw: Tensor) -> Tensor:
        patches_BlC = self._sequence.shard(patchify(camera_CFhw))
        linear = self.patch_embedding_wancamctrl
        camera_BlD = linear(patches_BlC.to(linear.weight.dtype))
        hidden = F.silu(self.c2ws_hidden_states_layer1(camera_BlD))
        summed: Tensor = camera_BlD + self.c2ws_hidden_states_layer2(hidden)
        return summed

    def _embed_timestep(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """The published float32 time MLP on one row: [1, D] for the head, [1, 6, D] for blocks."""
        half = self.config.freq_dim // 2
        steps = torch.arange(half, dtype=torch.float64, device=timestep.device)
        angles = timestep.to(torch.float64) * 10_000.0 ** (-steps / half)
        wave_BC = torch.cat([angles.cos(), angles.sin()]).float().unsqueeze(0)
        hidden = F.silu(linear_fp32(wave_BC, self.time_embedding[0]))
        time_BD = linear_fp32(hidden, self.time_embedding[2])
        time_B6D = linear_fp32(F.silu(time_BD), self.time_projection[1]).unflatten(1, (6, -1))
        return time_BD, time_B6D

    def _local_rope(self, grid: tuple[int, int, int], device: torch.device) -> RotaryTable:
        table = rotary_table(grid, self.config.head_dim, device=device)
        cos, sin = (self._sequence.shard(x.unsqueeze(0))[0] for x in (table.cos, table.sin))
        return RotaryTable(cos=cos, sin=sin)
