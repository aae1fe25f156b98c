"""The world model: Wan2.2's DiT with LingBot-World's camera injection, one expert of the two.

One forward serves one rank or many: tokens are split and joined by the `SequenceParallel` object
that the model is built with. Module names are those of the published checkpoint, so its keys need
no map. The maths follows `wan/modules/model.py` (Robbyant/lingbot-world, 6ca87d4); the image
branch follows Wan2.1's (Wan-Video/Wan2.1, 9737cba).

Shapes: B batch (1 but in training), L tokens of the clip, l tokens on this rank, D width, N heads,
H head size, S context rows, C channels, F latent frames, h and w latent pixels.

Precision: the residual stream, norms, modulation, timestep and head are float32 whatever the
weights are; matrix products and attention run in the dtype of the weights.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.attention import AttentionKernel
from model.block import EAGER, Block, BlockStages, ClipCondition
from model.config import DiTConfig
from model.layers import BlockPrompt, linear_fp32, modulate
from model.parallel.sequence import SequenceParallel
from model.patches import PATCH, patchify, unpatchify
from model.rope import RotaryTable, rotary_table
from model.turns import take_turns


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
        stages: How blocks run between attentions.
    """

    def __init__(
        self,
        config: DiTConfig,
        *,
        sequence: SequenceParallel,
        attention: AttentionKernel,
        stages: BlockStages = EAGER,
    ) -> None:
        super().__init__()
        dim, patch = config.dim, PATCH[1] * PATCH[2]
        self.config = config
        # Not where a block's weights are there for the time of its forward only.
        self.prompts_take_turns = sequence.size > 1 and config.num_layers > 1
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
        blocks = [Block(config, sequence, attention, stages) for _ in range(config.num_layers)]
        self.blocks = cast("Sequence[Block]", nn.ModuleList(blocks))
        self.head = Head(config)
        self._sequence = sequence

    def modulation_bytes(self, num_tokens: int) -> int:
        """What this rank spends on keeping one block's scale and shift for a clip."""
        local_tokens = -(-num_tokens // self._sequence.size)
        element = self.blocks[0].cam_scale_layer.weight.element_size()
        return 2 * local_tokens * self.config.dim * element

    def condition_clip(
        self, y_CFhw: Tensor, camera_CFhw: Tensor | None, *, kept_blocks: int
    ) -> ClipCondition:
        """Computes once what a clip's forwards share.

        Args:
            y_CFhw: Mask and first frame, float32 [20, F, h, w].
            camera_CFhw: Folded rays, float32 [384, F, h, w], or None to skip the injection.
            kept_blocks: How many blocks' scale and shift to keep, 2*l*D values each; the others
                compute them in every pass.
        """
        frames, height, width = y_CFhw.shape[1:]
        grid = (frames, height // PATCH[1], width // PATCH[2])
        rope = self._local_rope(grid, y_CFhw.device)
        if camera_CFhw is None:
            return ClipCondition(y_CFhw, rope, None, ())
        camera_BlD = self._embed_camera(camera_CFhw.unsqueeze(0))
        kept = self.blocks[:kept_blocks]
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
        """One pass for one prompt; arguments and result as in `predict`."""
        return self._predict(latent_CFhw, timestep, clip, (prompt,))[0]

    def predict(
        self,
        latent_CFhw: Tensor,
        timestep: Tensor,
        clip: ClipCondition,
        prompts: Sequence[tuple[BlockPrompt, ...]],
    ) -> list[Tensor]:
        """One pass for several prompts: less work than one after the other.

        They share the camera where its modulations are not kept, and all of the first block up to
        its cross-attention; what ranks exchange for one travels behind another's matrix products.

        Args:
            latent_CFhw: Noisy sample, float32 [16, F, h, w].
            timestep: Scalar; one row of modulation serves every token.
            clip: From `condition_clip`.
            prompts: From `condition_prompt`, each.

        Returns:
            Predicted flow for each prompt, float32 [16, F, h, w], the same on every rank.
        """
        return self._predict(latent_CFhw, timestep, clip, prompts)

    def forward_batch(
        self,
        latent_BCFhw: Tensor,
        timestep_B: Tensor,
        y_BCFhw: Tensor,
        camera_BCFhw: Tensor | None,
        text_BSC: Tensor,
        image_BSC: Tensor | None,
        rope: RotaryTable,
    ) -> Tensor:
        """One pass for several clips of one size, each with its own timestep, camera and prompt.

        This is what training calls; nothing is kept between passes, and tokens are not split.

        Args:
            latent_BCFhw: Noisy samples, [B, 16, F, h, w].
            timestep_B: One for each.
            y_BCFhw: Masks and first frames, [B, 20, F, h, w].
            camera_BCFhw: Folded rays, [B, 384, F, h, w], or None to skip the injection.
            text_BSC: T5 rows, zero after each prompt's end, `text_len` of them.
            image_BSC: CLIP rows, for a model with the image branch.
            rope: Angles of the clips' tokens.

        Returns:
            Predicted flows [B, 16, F, h, w].
        """
        time_BD, time_B6D = self._embed_timestep(timestep_B)
        patches_BLC = patchify(torch.cat([latent_BCFhw, y_BCFhw], dim=1))
        num_tokens = patches_BLC.shape[1]
        camera_BLD = None
        if camera_BCFhw is not None:
            # Rays of neighbouring frames differ by less than bfloat16 can tell.
            with torch.autocast(camera_BCFhw.device.type, enabled=False):
                camera_BLD = self._embed_camera(camera_BCFhw)
        clip = ClipCondition(y_BCFhw, rope, camera_BLD, ())
        text_BSD = self.text_embedding(text_BSC)
        image_BSD = None if image_BSC is None else self.img_emb(image_BSC)
        tokens = [self._embed_patches(patches_BLC)]
        for block in self.blocks:
            prompt = block.condition_prompt(text_BSD, image_BSD)
            tokens = block(tokens, time_B6D, clip, None, [prompt], num_tokens)
        return unpatchify(self.head(tokens[0], time_BD), latent_BCFhw.shape[1:])

    # Apart from its public forms, after which FSDP takes weights away: one uses the other.
    def _predict(
        self,
        latent_CFhw: Tensor,
        timestep: Tensor,
        clip: ClipCondition,
        prompts: Sequence[tuple[BlockPrompt, ...]],
    ) -> list[Tensor]:
        time_BD, time_B6D = self._embed_timestep(timestep)
        patches_BLC = patchify(torch.cat([latent_CFhw, clip.y_CFhw]).unsqueeze(0))
        num_tokens = patches_BLC.shape[1]
        tokens = [self._embed_patches(self._sequence.shard(patches_BLC))]
        in_turns = self.prompts_take_turns and len(prompts) > 1
        for index, block in enumerate(self.blocks[:1] if in_turns else self.blocks):
            block_prompts = [prompt[index] for prompt in prompts]
            tokens = block(tokens, time_B6D, clip, clip.kept(index), block_prompts, num_tokens)
        if in_turns:
            tokens = take_turns(self.blocks, tokens, time_B6D, clip, prompts, num_tokens)
        patches = [self._sequence.gather(self.head(x, time_BD), num_tokens) for x in tokens]
        return [unpatchify(patches_BLC, latent_CFhw.shape)[0] for patches_BLC in patches]

    def _embed_patches(self, patches_BlC: Tensor) -> Tensor:
        weight = self.patch_embedding.weight  # a convolution whose kernel is its stride
        flat = weight.flatten(1)
        embedded = F.linear(patches_BlC.to(weight.dtype), flat, self.patch_embedding.bias)
        return embedded.float()

    def _embed_camera(self, camera_BCFhw: Tensor) -> Tensor:
        patches_BlC = self._sequence.shard(patchify(camera_BCFhw))
        linear = self.patch_embedding_wancamctrl
        camera_BlD = linear(patches_BlC.to(linear.weight.dtype))
        hidden = F.silu(self.c2ws_hidden_states_layer1(camera_BlD))
        summed: Tensor = camera_BlD + self.c2ws_hidden_states_layer2(hidden)
        return summed

    def _embed_timestep(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """The published float32 time MLP, a row for each timestep: [B, D] for the head, [B, 6, D]
        for blocks."""
        half = self.config.freq_dim // 2
        steps = torch.arange(half, dtype=torch.float64, device=timestep.device)
        angles = timestep.to(torch.float64).view(-1, 1) * 10_000.0 ** (-steps / half)
        wave_BC = torch.cat([angles.cos(), angles.sin()], dim=1).float()
        hidden = F.silu(linear_fp32(wave_BC, self.time_embedding[0]))
        time_BD = linear_fp32(hidden, self.time_embedding[2])
        time_B6D = linear_fp32(F.silu(time_BD), self.time_projection[1]).unflatten(1, (6, -1))
        return time_BD, time_B6D

    def _local_rope(self, grid: tuple[int, int, int], device: torch.device) -> RotaryTable:
        table = rotary_table(grid, self.config.head_dim, device=device)
        cos, sin = (self._sequence.shard(x.unsqueeze(0))[0] for x in (table.cos, table.sin))
        return RotaryTable(cos=cos, sin=sin)
