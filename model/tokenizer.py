"""Prompts to token numbers, without the encoder: cheap enough for any process."""

import html
import re
from pathlib import Path

import ftfy
from tokenizers import Tokenizer

from model.checkpoint.layout import CheckpointPaths
from model.errors import CheckpointError

MAX_TOKENS = 512


def clean_prompt(prompt: str) -> str:
    """Repairs encoding faults, undoes HTML escapes (twice) and collapses white space."""
    repaired = html.unescape(html.unescape(ftfy.fix_text(prompt)))
    return re.sub(r"\s+", " ", repaired).strip()


class PromptTokenizer:
    """The checkpoint's `tokenizer.json`, applied to cleaned prompts.

    Read without transformers, whose newer T5 tokenizers keep the vocabulary but put normalisation
    and byte fallback of their own in place of the file's.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._cutting = Tokenizer.from_str(tokenizer.to_str())
        self._cutting.enable_truncation(MAX_TOKENS)

    @classmethod
    def load(cls, checkpoint: CheckpointPaths) -> "PromptTokenizer":
        """Reads the tokenizer of a checkpoint.

        Raises:
            CheckpointError: The file is not one of the `tokenizers` library.
        """
        return cls.read(checkpoint.tokenizer / "tokenizer.json")

    @classmethod
    def read(cls, path: Path) -> "PromptTokenizer":
        """Reads a tokenizer file.

        Raises:
            CheckpointError: The file is not one of the `tokenizers` library.
        """
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing more specific
            raise CheckpointError(f"{path} is not a tokenizer: {error}") from error
        return cls(tokenizer)

    @property
    def vocab_size(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    def num_tokens(self, prompt: str) -> int:
        """Tokens of the cleaned prompt before any cut, the end mark included."""
        return len(self._tokenizer.encode(clean_prompt(prompt)).ids)

    def encode(self, prompt: str) -> list[int]:
        """Tokens of the cleaned prompt, 512 at most, the end mark always last."""
        ids: list[int] = self._cutting.encode(clean_prompt(prompt)).ids
        return ids
