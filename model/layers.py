"""Norms and attention of the DiT's blocks.

Shapes: B batch, L tokens of the clip, l tokens on this rank, D width, N heads, H head size, S
context rows.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.attention import AttentionKernel
from model.config import DiTConfig
from model.parallel.sequence import Exchange, SequenceParallel
from model.rope import RotaryTable, rotate


@dataclass(frozen=True, slots=True)
class KeyValue:
    """Keys and values of one cross-attention, [B, S, N, H] each."""

    key: Tensor
    value: Tensor


@dataclass(frozen=True, slots=True)
class BlockPrompt:
    """What one block reads of a prompt: text rows, and image rows where there is the branch."""

    text: KeyValue
    image: KeyValue | None


class RMSNorm(nn.Module):
    """Root-mean-square norm in float32, rounded before the weight as published."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x_BLD: Tensor) -> Tensor:
        return (
            F.rms_norm(x_BLD.float(), x_BLD.shape[-1:], eps=self.eps).to(x_BLD.dtype) * self.weight
        )


class SelfAttention(nn.Module):
    """All tokens of the clip to each other; split over ranks by heads."""

    def __init__(
        self, config: DiTConfig, sequence: SequenceParallel, attention: AttentionKernel
    ) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(config.dim, config.dim) for _ in range(4))
        self.norm_q = RMSNorm(config.dim, config.eps)
        self.norm_k = RMSNorm(config.dim, config.eps)
        self._num_heads = config.num_heads
        self._sequence = sequence
        self._attention = attention

    def project_in(self, x_BlD: Tensor, rope: RotaryTable) -> tuple[Tensor, ...]:
        """Queries, keys and values of this rank's tokens, as the ranks exchange them."""
        q_BlNH = rotate(split_heads(self.norm_q(self.q(x_BlD)), self._num_heads), rope)
        k_BlNH = rotate(split_heads(self.norm_k(self.k(x_BlD)), self._num_heads), rope)
        v_BlNH = split_heads(self.v(x_BlD), self._num_heads)
        return self._sequence.pack(q_BlNH, k_BlNH, v_BlNH)

    def send(self, packed: tuple[Tensor, ...]) -> Exchange:
        """Starts the exchange before the attention."""
        return self._sequence.scatter_heads(packed)

    def attend(self, received: tuple[Tensor, ...], num_tokens: int) -> Tensor:
        """Attention over all tokens, [B, L, n, H]."""
        return self._attention(*self._sequence.heads(received, num_tokens))

    def send_back(self, out_BLnH: Tensor) -> Exchange:
        """Starts the exchange after the attention."""
        return self._sequence.gather_heads(out_BLnH)

    def project_out(self, received: tuple[Tensor, ...]) -> Tensor:
        """What came back, to the residual stream's width: [B, l, D]."""
        projected: Tensor = self.o(self._sequence.tokens(received).flatten(2))
        return projected


class CrossAttention(nn.Module):
    """Tokens to the prompt, and to the CLIP features where the checkpoint has the branch."""

    def __init__(self, config: DiTConfig, attention: AttentionKernel) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(config.dim, config.dim) for _ in range(4))
        self.norm_q = RMSNorm(config.dim, config.eps)
        self.norm_k = RMSNorm(config.dim, config.eps)
        if config.image_dim is not None:
            self.k_img, self.v_img = (nn.Linear(config.dim, config.dim) for _ in range(2))
            self.norm_k_img = RMSNorm(config.dim, config.eps)
        self._num_heads = config.num_heads
        self._attention = attention

    def condition(self, text_BSD: Tensor, image_BSD: Tensor | None) -> BlockPrompt:
        """Keys and values of a prompt, which no timestep changes."""
        text = self._key_value(self.norm_k(self.k(text_BSD)), self.v(text_BSD))
        if image_BSD is None:
            return BlockPrompt(text, None)
        image = self._key_value(self.norm_k_img(self.k_img(image_BSD)), self.v_img(image_BSD))
        return BlockPrompt(text, image)

    def _key_value(self, key_BSD: Tensor, value_BSD: Tensor) -> KeyValue:
        heads = self._num_heads
        return KeyValue(split_heads(key_BSD, heads), split_heads(value_BSD, heads))

    def query(self, x_BlD: Tensor) -> Tensor:
        """Queries [B, l, N, H]."""
        return split_heads(self.norm_q(self.q(x_BlD)), self._num_heads)

    def attend(self, q_BlNH: Tensor, prompt: BlockPrompt) -> Tensor:
        """Attention to a prompt, [B, l, N, H]."""
        out_BlNH = self._attention(q_BlNH, prompt.text.key, prompt.text.value)
        if prompt.image is not None:
            out_BlNH = out_BlNH + self._attention(q_BlNH, prompt.image.key, prompt.image.value)
        return out_BlNH

    def project_out(self, out_BlNH: Tensor) -> Tensor:
        """To the residual stream's width: [B, l, D]."""
        projected: Tensor = self.o(out_BlNH.flatten(2))
        return projected


def split_heads(x_BSD: Tensor, num_heads: int) -> Tensor:
    """[B, S, D] to [B, S, N, H]."""
    return x_BSD.view(*x_BSD.shape[:2], num_heads, -1)


def modulate(x_BlD: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x * (1 + scale) + shift."""
    return x_BlD * (1 + scale) + shift


def linear_fp32(x: Tensor, linear: nn.Module) -> Tensor:
    """A linear layer computed in float32 whatever its weights are stored in."""
    assert isinstance(linear, nn.Linear)
    with torch.autocast(x.device.type, enabled=False):  # under which training runs the rest
        return F.linear(x.float(), linear.weight.float(), linear.bias.float())


def layer_norm_fp32(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """An affine layer norm computed in float32 whatever its weights are stored in."""
    weight, bias = norm.weight.float(), norm.bias.float()
    return F.layer_norm(x.float(), norm.normalized_shape, weight, bias, norm.eps)
