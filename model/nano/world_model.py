"""The experts with the text and image encoders: everything that is trained together."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPVisionModel, UMT5EncoderModel

from model.attention import sdpa
from model.dit import DiT
from model.nano.sizes import NanoSize
from model.parallel.sequence import NoSequenceParallel
from model.types import TEMPORAL_STRIDE

_OUT_OF_SIGHT = -1e9  # added to the attention scores of padding, of which nothing is left


class WorldModel(nn.Module):
    """Both experts and both encoders."""

    def __init__(self, size: NanoSize, vocab_size: int) -> None:
        super().__init__()
        self.high_noise = _expert(size)
        self.low_noise = _expert(size)
        self.text_encoder = UMT5EncoderModel(size.text_encoder(vocab_size))
        self.image_encoder = CLIPVisionModel(size.image_encoder)
        self._text_len = size.dit.text_len

    @property
    def experts(self) -> tuple[DiT, DiT]:
        """High noise, low noise."""
        return self.high_noise, self.low_noise

    @property
    def camera_parameters(self) -> list[nn.Parameter]:
        """Of the layers that read the rays."""
        return [p for dit in self.experts for p in dit.patch_embedding_wancamctrl.parameters()]

    @property
    def hidden_matrices(self) -> list[nn.Parameter]:
        """Of the experts' blocks."""
        return [
            p
            for dit in self.experts
            for block in dit.blocks
            for p in block.parameters()
            if p.ndim == 2
        ]

    def encode_text(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """T5 rows of several prompts, zero after each one's end: [B, text_len, C]."""
        is_token = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        # Ready to be added, since transformers would ask the device whether a plain one is needed.
        mask = torch.where(is_token, 0.0, _OUT_OF_SIGHT)[:, None, None]
        mask = mask.expand(-1, -1, tokens.shape[1], -1)
        hidden = self.text_encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        rows = hidden * is_token.unsqueeze(-1)
        return F.pad(rows, (0, 0, 0, self._text_len - tokens.shape[1]))

    def encode_image(self, pixels: Tensor) -> Tensor:
        """CLIP rows of several first frames: [B, S, C]."""
        hidden: Tensor = self.image_encoder(pixel_values=pixels).last_hidden_state
        return hidden


def with_mask(first_frames: Tensor) -> Tensor:
    """What `model.denoiser.first_frame_condition` gives, for several clips."""
    clips, _, *grid = first_frames.shape
    mask = torch.zeros(clips, TEMPORAL_STRIDE, *grid, device=first_frames.device)
    mask[:, :, 0] = 1
    return torch.cat([mask, first_frames], dim=1)


def _expert(size: NanoSize) -> DiT:
    """An expert that at first listens to neither camera nor timestep, and predicts nothing."""
    dit = DiT(size.dit, sequence=NoSequenceParallel(), attention=sdpa)
    for block in dit.blocks:
        nn.init.normal_(block.modulation, std=1 / math.sqrt(size.dim))
        for linear in (block.cam_scale_layer, block.cam_shift_layer):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
    nn.init.normal_(dit.head.modulation, std=1 / math.sqrt(size.dim))
    nn.init.zeros_(dit.head.head.weight)
    nn.init.zeros_(dit.head.head.bias)
    return dit
