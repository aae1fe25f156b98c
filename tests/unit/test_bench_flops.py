"""Arithmetic of a forward by formula, and clips as the benchmarks write them."""

import pytest

from lingbot_serve.bench.clips import Clip
from lingbot_serve.bench.flops import DiTSizes, forward_flop
from model.config import DiTConfig
from model.errors import InvalidInputError


@pytest.mark.parametrize(
    ("clip", "petaflop"), [("480x832x81", 1.937), ("480x832x161", 5.417), ("720x1280x81", 7.124)]
)
def test_published_clips(clip, petaflop):
    assert forward_flop(Clip.parse(clip).num_tokens) / 1e15 == pytest.approx(petaflop, abs=5e-4)


def test_sizes_are_those_of_the_model():
    config, sizes = DiTConfig(), DiTSizes()
    for name in ("dim", "ffn_dim", "num_layers"):
        assert getattr(sizes, name) == getattr(config, name)


def test_clip_reads_what_it_writes():
    clip = Clip.parse("480x832x81")
    assert (clip.width, clip.height, clip.frames) == (480, 832, 81)
    assert str(clip) == "480x832x81"
    assert clip.num_tokens == 32_760
    assert clip.shape.latent_frames == 21


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("480x832", "WxHxF"),
        ("480xax81", "WxHxF"),
        ("481x832x81", "multiples of 16"),
        ("0x832x81", "multiples of 16"),
        ("480x832x80", "4n\\+1"),
        ("480x832x0", "4n\\+1"),
    ],
)
def test_clip_refuses(text, why):
    with pytest.raises(InvalidInputError, match=why):
        Clip.parse(text)
