import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from model.checkpoint.layout import CheckpointPaths, locate_checkpoint
from model.checkpoint.synthetic import SMALL, TINY, main, write_synthetic_checkpoint
from model.checkpoint.tensors import open_safetensors
from model.config import read_dit_config
from model.denoiser import Denoiser
from model.errors import CheckpointError
from model.image_encoder import ImageEncoder
from model.text_encoder import TextEncoder
from model.types import (
    CameraPath,
    DenoiseRequest,
    Latents,
    SamplerSettings,
    VideoShape,
)
from model.vae_decoder import VAEDecoder
from model.vae_encoder import VAEEncoder

CPU = torch.device("cpu")
MEBIBYTE = 2**20


def _files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_same_seed_same_files_other_seed_other_weights(
    synthetic_checkpoint: CheckpointPaths, tmp_path: Path
) -> None:
    write_synthetic_checkpoint(tmp_path / "same", seed=0, size=TINY)
    write_synthetic_checkpoint(tmp_path / "other", seed=1, size=TINY)
    files, same = _files(synthetic_checkpoint.root), _files(tmp_path / "same")
    assert files.keys() == same.keys()
    assert [name for name in files if files[name] != same[name]] == []
    other = _files(tmp_path / "other")
    changed = {name for name in files if files[name] != other[name]}
    assert changed == {n for n in files if n.endswith((".pth", ".safetensors"))}


def test_default_size_is_small_and_serves_eight_ranks(tmp_path: Path) -> None:
    main([str(tmp_path / "checkpoint"), "--seed", "3"])
    assert sum(len(data) for data in _files(tmp_path / "checkpoint").values()) < 24 * MEBIBYTE
    config = read_dit_config(locate_checkpoint(tmp_path / "checkpoint"))
    assert config.image_dim == SMALL.image_dim
    for degree in (1, 2, 4, 8):
        config.check_ulysses_degree(degree)


def test_experts_differ(synthetic_checkpoint: CheckpointPaths) -> None:
    high, low = (
        load_file(folder / "diffusion_pytorch_model.safetensors")
        for folder in (synthetic_checkpoint.high_noise, synthetic_checkpoint.low_noise)
    )
    assert high.keys() == low.keys()
    assert not any(torch.equal(high[key], low[key]) for key in high)
    assert json.loads((synthetic_checkpoint.high_noise / "config.json").read_text()).items() >= {
        ("model_type", "i2v"),
        ("in_dim", 36),
        ("out_dim", 16),
        ("text_len", 512),
    }


def test_shards_hold_the_same_tensors(
    synthetic_checkpoint: CheckpointPaths, tmp_path: Path
) -> None:
    write_synthetic_checkpoint(tmp_path / "sharded", seed=0, size=TINY, num_shards=3)
    folder = locate_checkpoint(tmp_path / "sharded").low_noise
    assert len(list(folder.glob("*.safetensors"))) == 3
    sharded = open_safetensors(folder, "diffusion_pytorch_model")
    whole = open_safetensors(synthetic_checkpoint.low_noise, "diffusion_pytorch_model")
    assert sharded.shapes == whole.shapes
    assert all(torch.equal(sharded.read(key), whole.read(key)) for key in whole.shapes)


def test_dtype_is_that_of_experts_and_text_encoder(tmp_path: Path) -> None:
    root = tmp_path / "c"
    write_synthetic_checkpoint(root, seed=0, size=TINY, image_branch=False, dtype=torch.bfloat16)
    for file, dtype in (
        ("high_noise_model/diffusion_pytorch_model.safetensors", torch.bfloat16),
        ("models_t5_umt5-xxl-enc-bf16.pth", torch.bfloat16),
        ("Wan2.1_VAE.pth", torch.float32),
    ):
        read = load_file if file.endswith(".safetensors") else torch.load
        assert {tensor.dtype for tensor in read(root / file).values()} == {dtype}


def test_image_branch_is_optional(tmp_path: Path) -> None:
    write_synthetic_checkpoint(tmp_path / "plain", seed=0, size=TINY, image_branch=False)
    paths = locate_checkpoint(tmp_path / "plain")
    assert paths.image_encoder is None
    assert read_dit_config(paths).image_dim is None


def test_existing_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(CheckpointError, match="in the way"):
        write_synthetic_checkpoint(tmp_path, seed=0, size=TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_clip_is_finite_and_moves(synthetic_checkpoint: CheckpointPaths) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    shape = VideoShape(num_frames=9, height=48, width=80)
    text = TextEncoder.load(synthetic_checkpoint, device=CPU, dtype=torch.float32)
    tower = ImageEncoder.load(synthetic_checkpoint, device=CPU, dtype=torch.float32)
    encoder = VAEEncoder.load(synthetic_checkpoint, device=CPU, dtype=torch.float32)
    denoiser = Denoiser.load(synthetic_checkpoint, device=CPU, dtype=torch.float32)
    decoder = VAEDecoder.load(synthetic_checkpoint, device=CPU, dtype=torch.float32)
    poses = np.tile(np.eye(4), (9, 1, 1))
    poses[:, 2, 3] = np.linspace(0, 1, 9)
    request = DenoiseRequest(
        prompt=text.encode("A quiet lake."),
        negative_prompt=text.encode(""),
        first_frame=encoder.encode(image, shape),
        image=tower.encode(image),
        camera=CameraPath(poses, np.tile([500.0, 500.0, 416.0, 240.0], (9, 1))),
        shape=shape,
        sampler=SamplerSettings(num_inference_steps=3),
        seed=0,
    )
    assert denoiser.needs_image_embeds
    *_, latents = denoiser.denoise(request)
    assert isinstance(latents, Latents)
    assert np.isfinite(latents.values).all() and 0.1 < latents.values.std() < 10
    video = np.concatenate([frames.pixels for frames in decoder.decode(latents)]).astype(float)
    assert video.shape == (9, 48, 80, 3)
    assert video.std() > 10 and np.abs(np.diff(video, axis=0)).mean() > 1
