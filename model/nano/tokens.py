"""Captions to token numbers, as `model.tokenizer` has them, without what it needs for other text.

Captions are plain ASCII, which the server's cleaning leaves as it is.
"""

from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from model.prompts import DEFAULT_NEGATIVE_PROMPT

# Of the published negative prompt, cleaning changes the commas alone.
NEGATIVE_PROMPT = DEFAULT_NEGATIVE_PROMPT.replace("，", ",")


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def tokenize(tokenizer: Tokenizer, prompts: list[str]) -> tuple[Tensor, Tensor]:
    """Token numbers [n, S], 0 after the end, and each prompt's length [n]."""
    rows = [torch.tensor(encoded.ids) for encoded in tokenizer.encode_batch(prompts)]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return padded, torch.tensor([len(row) for row in rows])
