"""Prompts to umT5 features."""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from transformers import UMT5EncoderModel

from model.checkpoint.layout import CheckpointPaths, Layout
from model.checkpoint.load import load_module, same_key
from model.checkpoint.text_encoder import (
    open_text_encoder,
    published_text_encoder_key,
    read_text_encoder_config,
)
from model.tokenizer import PromptTokenizer
from model.types import TextEmbeds


class TextEncoder:
    """The umT5 encoder and its tokenizer."""

    def __init__(self, model: nn.Module, tokenizer: PromptTokenizer, device: torch.device) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._device = device

    @classmethod
    def load(
        cls,
        checkpoint: CheckpointPaths,
        *,
        device: torch.device,
        dtype: torch.dtype,
        shard: Callable[[nn.Module], object] | None = None,
    ) -> "TextEncoder":
        """Builds the encoder from a checkpoint.

        Args:
            checkpoint: Paths of the parts.
            device: Where it runs.
            dtype: Of the weights; published runs use bfloat16.
            shard: Splits the meta-device `UMT5EncoderModel` over ranks (its blocks are
                `encoder.block`); each rank then reads its own rows only.

        Raises:
            CheckpointError: The weights do not fit.
        """
        source = open_text_encoder(checkpoint)
        config = read_text_encoder_config(checkpoint, source)
        with torch.device("meta"):
            model: nn.Module = UMT5EncoderModel(config)
        model.to(dtype)
        if shard is not None:
            shard(model)
        published = checkpoint.layout is Layout.PUBLISHED
        key_of = published_text_encoder_key if published else same_key
        load_module(model, source, key_of, device=device)
        return cls(model, PromptTokenizer.load(checkpoint), device)

    def num_tokens(self, prompt: str) -> int:
        """Tokens of the cleaned prompt before any cut, the end mark included."""
        return self._tokenizer.num_tokens(prompt)

    def encode(self, prompt: str) -> TextEmbeds:
        """Features of one prompt; tokens after the 512th are cut, as published.

        Padding is left out: masked keys weigh nothing and their rows would be cut again.

        Args:
            prompt: Any text; it is cleaned first.

        Returns:
            Features [L, text_dim], L the prompt's token count.
        """
        return self.encode_batch([prompt])[0]

    @torch.inference_mode()
    def encode_batch(self, prompts: Sequence[str]) -> list[TextEmbeds]:
        """Features of several prompts in one pass, each what `encode` makes of it alone.

        Shorter prompts are padded to the longest; the encoder's weights on padding are exactly 0.

        Args:
            prompts: As for `encode`, at least one.
        """
        ids = [torch.tensor(self._tokenizer.encode(prompt)) for prompt in prompts]
        lengths = torch.tensor([len(tokens) for tokens in ids])
        padded = nn.utils.rnn.pad_sequence(ids, batch_first=True).to(self._device)
        is_token = torch.arange(padded.shape[1]) < lengths[:, None]
        mask = None if is_token.all() else is_token.long().to(self._device)
        hidden = self._model(input_ids=padded, attention_mask=mask).last_hidden_state
        rows = [row[:length] for row, length in zip(hidden.float().cpu(), lengths, strict=True)]
        # Copies, since a prompt may be kept for long and must not keep its whole batch.
        return [TextEmbeds(row.numpy().copy()) for row in rows]
