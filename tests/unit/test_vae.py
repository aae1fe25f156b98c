import gc
import json
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from model.checkpoint.layout import CheckpointPaths, Layout, locate_checkpoint
from model.checkpoint.vae import VAEConfig, published_vae_key
from model.errors import CheckpointError
from model.types import FirstFrame, Latents, UInt8Array, VideoShape
from model.vae import first_settled_latent
from model.vae_decoder import VAEDecoder, to_bytes
from model.vae_encoder import VAEEncoder
from model.vae_layers import convolve_as_images
from model.vae_network import EncoderHalf
from tests.support.golden import golden_results

CPU = torch.device("cpu")
FLOAT32: dict[str, Any] = {"device": CPU, "dtype": torch.float32}
SHAPE = VideoShape(num_frames=13, height=32, width=48)


class LiveBytes(TorchDispatchMode):
    """The most bytes that operators' results held at one time."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._live: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, Tensor):
                self._watch(tensor.untyped_storage())
        return out

    def _watch(self, storage: torch.UntypedStorage) -> None:
        address = storage.data_ptr()
        if address not in self._live:
            self._live[address] = storage.nbytes()
            weakref.finalize(storage, self._live.pop, address, None)
            self.peak = max(self.peak, sum(self._live.values()))


class CountedConvolutions(TorchDispatchMode):
    """How often a convolution runs."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += func.overloadpacket in (torch.ops.aten.conv3d, torch.ops.aten.convolution)
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def reference() -> AutoencoderKLWan:
    torch.manual_seed(0)
    vae = AutoencoderKLWan(
        base_dim=4,
        latents_mean=[0.1 * i for i in range(16)],
        latents_std=[1 + 0.1 * i for i in range(16)],
    )
    return vae.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def diffusers_checkpoint(
    reference: AutoencoderKLWan,
    synthetic_checkpoint: CheckpointPaths,
    tmp_path_factory: pytest.TempPathFactory,
) -> CheckpointPaths:
    folder = tmp_path_factory.mktemp("vae")
    reference.save_pretrained(folder)
    return replace(synthetic_checkpoint, layout=Layout.DIFFUSERS, vae=folder)


@pytest.fixture(scope="module")
def image() -> UInt8Array:
    return np.random.default_rng(0).integers(0, 256, (20, 70, 3), dtype=np.uint8)


def _statistics(reference: AutoencoderKLWan) -> tuple[Tensor, Tensor]:
    mean, std = reference.config.latents_mean, reference.config.latents_std
    return torch.tensor(mean).view(-1, 1, 1, 1), torch.tensor(std).view(-1, 1, 1, 1)


def _grey_clip(image: UInt8Array, shape: VideoShape) -> Tensor:
    clip = torch.zeros(1, 3, shape.num_frames, shape.height, shape.width)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None] / 127.5 - 1
    clip[:, :, 0] = torch.nn.functional.interpolate(
        pixels, size=(shape.height, shape.width), mode="bicubic"
    )
    return clip


def _relative(ours: Tensor, expected: Tensor) -> float:
    assert ours.shape == expected.shape
    return float((ours - expected).norm() / expected.norm())


def test_first_frame_agrees_with_the_published_code(golden: Path) -> None:
    expected = golden_results(golden)["y"][4:]
    image = np.asarray(Image.open(golden / "case/image.png").convert("RGB"))
    encoder = VAEEncoder.load(locate_checkpoint(golden / "checkpoint"), **FLOAT32)
    latent = encoder.encode(image, VideoShape(17, 80, 160)).latent
    assert latent.dtype == np.float32
    assert _relative(torch.from_numpy(latent), expected) <= 1e-4


def test_video_agrees_with_the_published_code(golden: Path) -> None:
    expected = golden_results(golden)
    latents = Latents(expected["latent_steps"][-1].numpy())
    decoder = VAEDecoder.load(locate_checkpoint(golden / "checkpoint"), **FLOAT32)
    video = torch.cat(list(decoder.decode_float(latents)), dim=1)
    assert (video - expected["video"]).abs().mean() <= 2e-3
    pixels = np.concatenate([frames.pixels for frames in decoder.decode(latents)])
    published = ((expected["video"] + 1) / 2 * 255).to(torch.uint8).permute(1, 2, 3, 0).numpy()
    assert pixels.dtype == np.uint8 and pixels.shape == published.shape
    assert np.mean(pixels != published) < 1e-3  # rounding of a few pixels may differ


def test_streamed_encode_equals_diffusers(
    reference: AutoencoderKLWan, diffusers_checkpoint: CheckpointPaths, image: UInt8Array
) -> None:
    mean, std = _statistics(reference)
    expected = (reference.encode(_grey_clip(image, SHAPE)).latent_dist.mode()[0] - mean) / std
    ours = VAEEncoder.load(diffusers_checkpoint, **FLOAT32).encode(image, SHAPE)
    assert _relative(torch.from_numpy(ours.latent), expected) <= 1e-5


def test_streamed_decode_equals_diffusers(
    reference: AutoencoderKLWan, diffusers_checkpoint: CheckpointPaths
) -> None:
    values = torch.randn(16, 7, 4, 6)
    mean, std = _statistics(reference)
    expected = reference.decode((values * std + mean)[None]).sample[0]
    decoder = VAEDecoder.load(diffusers_checkpoint, **FLOAT32)
    chunks = list(decoder.decode_float(Latents(values.numpy())))
    assert [chunk.shape[1] for chunk in chunks] == [1, 8, 8, 8]
    assert _relative(torch.cat(chunks, dim=1), expected) <= 1e-5


@pytest.mark.parametrize("size", [1, 3])
def test_a_video_convolution_may_run_on_images(size: int) -> None:
    videos, weight, bias = (
        torch.randn(2, 5, 6, 7, 8),
        torch.randn(4, 5, 3, size, size),
        torch.ones(4),
    )
    expected = torch.conv3d(videos, weight, bias, padding=(0, size // 2, size // 2))
    ours = convolve_as_images(videos, weight, bias)
    assert _relative(ours, expected) <= 1e-5


@pytest.mark.parametrize(
    ("num_res_blocks", "temporal", "settled"),
    [(2, (False, True, True), 29), (1, (False, True, True), 21), (2, (True, True, False), 35)],
)
def test_latents_of_grey_frames_settle_exactly_where_computed(
    num_res_blocks: int, temporal: tuple[bool, ...], settled: int
) -> None:
    config = VAEConfig(2, (1, 2, 4, 4), num_res_blocks, temporal)
    assert first_settled_latent(config) == settled
    torch.manual_seed(0)
    half = EncoderHalf(config).eval().requires_grad_(False)
    kept: list[Tensor] = []
    latents: list[Tensor] = []
    for index in range(settled + 6):
        frames = 4 if index else 1
        pixels = torch.zeros(1, 3, 4, 16, 16) if index else torch.randn(1, 3, 1, 16, 16)
        latent, kept = half(pixels[:, :, :frames], kept)
        latents.append(latent)
    assert not torch.equal(latents[settled - 1], latents[settled])
    assert all(torch.equal(latent, latents[settled]) for latent in latents[settled:])


def test_a_long_clip_is_encoded_as_if_to_its_end(
    reference: AutoencoderKLWan, diffusers_checkpoint: CheckpointPaths, image: UInt8Array
) -> None:
    shape = VideoShape(num_frames=161, height=16, width=16)
    mean, std = _statistics(reference)
    expected = (reference.encode(_grey_clip(image, shape)).latent_dist.mode()[0] - mean) / std
    encoder = VAEEncoder.load(diffusers_checkpoint, **FLOAT32)
    with CountedConvolutions() as long:
        ours = encoder.encode(image, shape)
    with CountedConvolutions() as short:
        encoder.encode(image, replace(shape, num_frames=81))
    assert _relative(torch.from_numpy(ours.latent), expected) <= 1e-5
    assert long.calls * 20 < short.calls * 31  # 30 of 41 latent frames, the first apart


def test_clips_do_not_touch_each_other(diffusers_checkpoint: CheckpointPaths) -> None:
    decoder = VAEDecoder.load(diffusers_checkpoint, **FLOAT32)
    first, second = (Latents(np.full((16, 3, 2, 2), value, np.float32)) for value in (0.5, -1))
    alone = [frames.pixels for frames in decoder.decode(first)]
    side_by_side = zip(decoder.decode(first), decoder.decode(second), strict=True)
    for expected, (ours, _) in zip(alone, side_by_side, strict=True):
        np.testing.assert_array_equal(ours.pixels, expected)


def test_memory_does_not_grow_with_the_clip(
    diffusers_checkpoint: CheckpointPaths, image: UInt8Array
) -> None:
    encoder = VAEEncoder.load(diffusers_checkpoint, **FLOAT32)
    decoder = VAEDecoder.load(diffusers_checkpoint, **FLOAT32)

    def peak(num_frames: int) -> tuple[int, int]:
        gc.collect()
        shape = VideoShape(num_frames, 32, 48)
        with LiveBytes() as encoding:
            encoded: FirstFrame = encoder.encode(image, shape)
        with LiveBytes() as decoding:
            for _ in decoder.decode(Latents(encoded.latent)):
                pass
        return encoding.peak, decoding.peak

    short, long = peak(49), peak(97)
    one_latent_frame = 16 * 4 * 6 * 4
    grown = 3 * 12 * one_latent_frame  # the encoder's results themselves: parts, joined, scaled
    assert long[0] <= short[0] + grown < 1.2 * short[0]
    assert long[1] <= 1.02 * short[1]


def test_bytes_are_truncated() -> None:
    pixels = torch.tensor([-1.0, 0.999, 1.0, 0.0]).view(1, 1, 1, 4).expand(3, 1, 1, 4)
    assert to_bytes(pixels)[0, 0, :, 0].tolist() == [0, 254, 255, 127]


def test_published_names_are_those_that_diffusers_converts() -> None:
    with torch.device("meta"):
        expected = AutoencoderKLWan().state_dict()
    config = VAEConfig(96, (1, 2, 4, 4), 2, (False, True, True))
    published = {published_vae_key(name, config): value for name, value in expected.items()}
    assert len(published) == len(expected)
    converted: dict[str, Tensor] = convert_wan_vae_to_diffusers(dict(published))
    assert {k: v.shape for k, v in converted.items()} == {k: v.shape for k, v in expected.items()}


@pytest.fixture
def copied_vae(synthetic_checkpoint: CheckpointPaths, tmp_path: Path) -> Iterator[CheckpointPaths]:
    path = tmp_path / "Wan2.1_VAE.pth"
    path.write_bytes(synthetic_checkpoint.vae.read_bytes())
    yield replace(synthetic_checkpoint, vae=path)


def test_a_checkpoint_may_bring_its_own_statistics(
    copied_vae: CheckpointPaths, image: UInt8Array
) -> None:
    published = VAEEncoder.load(copied_vae, **FLOAT32).encode(image, SHAPE).latent
    raw = {"latents_mean": [0.0] * 16, "latents_std": [1.0] * 16}
    copied_vae.vae.with_suffix(".json").write_text(json.dumps(raw))
    own = VAEEncoder.load(copied_vae, **FLOAT32).encode(image, SHAPE).latent
    np.testing.assert_allclose(published[0], (own[0] + 0.7571) / 2.8184, atol=1e-6)
    np.testing.assert_allclose(published[15], (own[15] + 0.2921) / 1.9160, atol=1e-6)


@pytest.mark.parametrize(
    "broken",
    [{"latents_mean": [0.0] * 16}, {"latents_mean": [0.0] * 3, "latents_std": [1.0] * 3}],
)
def test_bad_statistics_are_refused(copied_vae: CheckpointPaths, broken: dict[str, Any]) -> None:
    copied_vae.vae.with_suffix(".json").write_text(json.dumps(broken))
    with pytest.raises(CheckpointError, match="latents_std"):
        VAEDecoder.load(copied_vae, **FLOAT32)


def test_another_model_is_refused(synthetic_checkpoint: CheckpointPaths) -> None:
    with pytest.raises(CheckpointError, match=r"is no Wan2\.1 VAE: .*encoder\.conv1\.weight"):
        VAEDecoder.load(
            replace(synthetic_checkpoint, vae=synthetic_checkpoint.text_encoder), **FLOAT32
        )


def test_only_the_wanted_half_is_checked_and_strange_keys_are_named(
    copied_vae: CheckpointPaths,
) -> None:
    tensors = torch.load(copied_vae.vae, weights_only=True)
    tensors["decoder.stranger"] = torch.zeros(1)
    torch.save(tensors, copied_vae.vae)
    VAEEncoder.load(copied_vae, **FLOAT32)
    with pytest.raises(CheckpointError, match=r"unknown: decoder\.stranger"):
        VAEDecoder.load(copied_vae, **FLOAT32)
