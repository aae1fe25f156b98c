import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, UMT5Config, UMT5EncoderModel

from model.checkpoint.layout import CheckpointPaths, Layout, locate_checkpoint
from model.errors import CheckpointError
from model.prompts import DEFAULT_NEGATIVE_PROMPT
from model.text_encoder import TextEncoder
from model.tokenizer import MAX_TOKENS, PromptTokenizer, clean_prompt
from tests.support.golden import golden_results

CPU = torch.device("cpu")


def _load(checkpoint: CheckpointPaths, dtype: torch.dtype = torch.float32) -> TextEncoder:
    return TextEncoder.load(checkpoint, device=CPU, dtype=dtype)


@pytest.fixture(scope="module")
def encoder(synthetic_checkpoint: CheckpointPaths) -> TextEncoder:
    return _load(synthetic_checkpoint)


def test_features_agree_with_the_published_code(golden: Path) -> None:
    expected = golden_results(golden)
    case = json.loads((golden / "case/case.json").read_text())
    encoder = _load(locate_checkpoint(golden / "checkpoint"))
    prompts = {
        "context": (golden / "case/prompt.txt").read_text(),
        "context_null": case["neg_prompt"],
    }
    for name, prompt in prompts.items():
        ours = torch.from_numpy(encoder.encode(prompt).embeds)
        assert ours.dtype == torch.float32 and ours.shape == expected[name].shape
        assert (ours - expected[name]).norm() / expected[name].norm() <= 1e-5


@pytest.mark.parametrize(
    ("prompt", "cleaned"),
    [
        ("  two \n\t words\u3000here ", "two words here"),
        ("fish &amp;amp; chips", "fish & chips"),
        ("schÃ¶n", "schön"),
        ("", ""),
    ],
)
def test_cleaning(prompt: str, cleaned: str) -> None:
    assert clean_prompt(prompt) == cleaned


def test_count_is_that_of_the_uncut_prompt(encoder: TextEncoder) -> None:
    assert encoder.num_tokens("  &amp; ") == encoder.num_tokens("&")
    for prompt in ("A lake.", DEFAULT_NEGATIVE_PROMPT, ""):
        assert len(encoder.encode(prompt).embeds) == encoder.num_tokens(prompt)
    long = "zqx " * 400
    assert encoder.num_tokens(long) > MAX_TOKENS
    assert len(encoder.encode(long).embeds) == MAX_TOKENS


def test_tokens_are_those_of_the_published_tokenizer(golden: Path) -> None:
    checkpoint = locate_checkpoint(golden / "checkpoint")
    ours, theirs = (
        PromptTokenizer.load(checkpoint),
        AutoTokenizer.from_pretrained(checkpoint.tokenizer),
    )
    for prompt in ("A lake in the mist.", DEFAULT_NEGATIVE_PROMPT, "", "stones " * 300):
        cut = theirs(clean_prompt(prompt), truncation=True, max_length=MAX_TOKENS).input_ids
        assert ours.encode(prompt) == cut


def test_a_broken_tokenizer_is_refused(
    synthetic_checkpoint: CheckpointPaths, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is not a tokenizer"):
        PromptTokenizer.load(replace(synthetic_checkpoint, tokenizer=tmp_path))


def test_diffusers_layout_and_padding(
    synthetic_checkpoint: CheckpointPaths, encoder: TextEncoder, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    config = UMT5Config(
        vocab_size=512, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, dropout_rate=0.0
    )
    reference = UMT5EncoderModel(config).eval()
    reference.save_pretrained(tmp_path)
    checkpoint = replace(synthetic_checkpoint, layout=Layout.DIFFUSERS, text_encoder=tmp_path)
    prompt = "Sunlight on the grass."
    length = encoder.num_tokens(prompt)
    ids = torch.zeros(1, MAX_TOKENS, dtype=torch.long)
    ids[0, :length] = torch.tensor(PromptTokenizer.load(checkpoint).encode(prompt))
    mask = torch.arange(MAX_TOKENS)[None] < length
    with torch.no_grad():
        padded = reference(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    ours = _load(checkpoint).encode(prompt).embeds
    np.testing.assert_allclose(ours, padded[0, :length].numpy(), rtol=1e-5, atol=1e-5)


def test_half_precision_follows_full_precision(
    synthetic_checkpoint: CheckpointPaths, encoder: TextEncoder
) -> None:
    whole = encoder.encode("A wide street.").embeds
    half = _load(synthetic_checkpoint, torch.bfloat16).encode("A wide street.").embeds
    assert half.dtype == np.float32
    error = np.linalg.norm(half - whole) / np.linalg.norm(whole)
    assert 0 < error < 0.05  # bfloat16 keeps 8 bits


def test_strange_and_missing_keys_are_named(
    synthetic_checkpoint: CheckpointPaths, tmp_path: Path
) -> None:
    tensors = torch.load(synthetic_checkpoint.text_encoder, weights_only=True)
    tensors["blocks.1.attn.q.bias"] = torch.zeros(64)
    del tensors["norm.weight"]
    torch.save(tensors, tmp_path / "t5.pth")
    with pytest.raises(CheckpointError) as caught:
        _load(replace(synthetic_checkpoint, text_encoder=tmp_path / "t5.pth"))
    assert "missing: norm.weight" in str(caught.value)
    assert "unknown: blocks.1.attn.q.bias" in str(caught.value)


def test_another_model_is_refused(synthetic_checkpoint: CheckpointPaths) -> None:
    with pytest.raises(
        CheckpointError, match=r"no umT5 encoder: no matrix token_embedding\.weight"
    ):
        _load(replace(synthetic_checkpoint, text_encoder=synthetic_checkpoint.vae))


def test_a_prompt_in_a_batch_is_encoded_as_it_is_alone(encoder: TextEncoder) -> None:
    prompts = ["A wide street.", "", DEFAULT_NEGATIVE_PROMPT, "zqx " * 400, "A wide street."]
    together = encoder.encode_batch(prompts)
    for prompt, embeds in zip(prompts, together, strict=True):
        alone = encoder.encode(prompt).embeds
        assert embeds.embeds.shape == alone.shape
        np.testing.assert_allclose(embeds.embeds, alone, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(together[0].embeds, together[-1].embeds)
