"""Tokenizers of small checkpoints: byte-level pairs, so that they read any language."""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from model.prompts import DEFAULT_NEGATIVE_PROMPT

_PAD, _END, _UNKNOWN = "<pad>", "</s>", "<unk>"
_VOCAB_SIZE = 512
_CORPUS = (
    "The camera glides slowly forward through a quiet mountain village at sunrise.",
    "A wide street after the rain, the lights of the shops shining on the wet stones.",
    "Walking along a forest path, sunlight falling between the tall trees on the grass.",
    "The view turns left over the lake, then rises above the snow and the distant hills.",
    "An old harbour with wooden boats, white houses and gulls, under a bright blue sky.",
    "Inside a large library, warm lamps, long shelves of books, the camera moving backward.",
    DEFAULT_NEGATIVE_PROMPT,
)


def write_tokenizer(folder: Path, tokenizer: Tokenizer | None = None) -> int:
    """Writes `tokenizer.json` and `tokenizer_config.json`.

    Args:
        folder: Where; it is made.
        tokenizer: From `train_tokenizer`; None trains one on a few sentences.

    Returns:
        Size of the vocabulary.
    """
    folder.mkdir(parents=True)
    if tokenizer is None:
        tokenizer = train_tokenizer(_CORPUS, _VOCAB_SIZE)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": _END,
        "pad_token": _PAD,
        "unk_token": _UNKNOWN,
        "model_max_length": 10**30,  # the encoder cuts, after the true length was counted
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
    return tokenizer.get_vocab_size()


def train_tokenizer(corpus: Iterable[str], vocab_size: int) -> Tokenizer:
    """A tokenizer that knows the words of a corpus and any other by its bytes.

    Args:
        corpus: Sentences.
        vocab_size: At most; at least 259, for the bytes and three marks.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[_PAD, _END, _UNKNOWN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {_END}", special_tokens=[(_END, tokenizer.token_to_id(_END))]
    )
    return tokenizer
