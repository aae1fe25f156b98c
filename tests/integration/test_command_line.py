"""`lingbot-serve generate` on a cluster of its own."""

import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lingbot_serve.exit_codes import ExitCode
from model.checkpoint.layout import CheckpointPaths
from tests.support.command_line import (
    EXAMPLES,
    INPUTS,
    SHORT,
    all_gone,
    finish,
    processes_of,
    start,
)
from tests.support.golden import golden_results
from tests.support.server import PATIENCE_S, START_PATIENCE_S


@pytest.mark.timeout(900)
def test_generate_on_a_cluster_of_its_own(
    synthetic_checkpoint: CheckpointPaths, tmp_path: Path
) -> None:
    checkpoint = ["--checkpoint", str(synthetic_checkpoint.root)]
    cluster = ["--config", str(EXAMPLES / "cpu.yaml"), *checkpoint]
    outputs = ["--output", "new/clip.mp4", "--tensors", "new/clip.safetensors"]
    process = start("generate", *cluster, *INPUTS, *SHORT, *outputs, folder=tmp_path)
    started = processes_of(process, START_PATIENCE_S)
    code, output = finish(process, PATIENCE_S)
    assert code == ExitCode.DONE, output
    assert output.splitlines()[-1] == "new/clip.mp4"
    stages = ("text_encoder", "image_encoder", "vae_encoder", "denoiser", "vae_decoder")
    assert [stage for stage in stages if f"{stage}: finished in" not in output] == []
    assert started
    assert all_gone(started)

    tensors = load_file(tmp_path / "new/clip.safetensors")
    frames, latents = tensors["frames"], tensors["latents"]
    assert (frames.shape[0], frames.shape[3], frames.dtype) == (9, 3, np.uint8)
    assert (latents.shape[:2], latents.dtype) == ((16, 3), np.float32)
    assert (latents.shape[2] * 8, latents.shape[3] * 8) == frames.shape[1:3]
    with av.open(str(tmp_path / "new/clip.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.average_rate, stream.frames) == (16, 9)


@pytest.mark.timeout(300)
def test_weights_that_do_not_fit_end_the_start(
    synthetic_checkpoint: CheckpointPaths, tmp_path: Path
) -> None:
    root = tmp_path / "checkpoint"
    shutil.copytree(synthetic_checkpoint.root, root)
    file = root / "low_noise_model/diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    del tensors["blocks.1.norm3.bias"]
    save_file(tensors, file)
    cluster = ["--config", str(EXAMPLES / "cpu.yaml"), "--checkpoint", str(root)]
    outputs = ["--output", "clip.mp4"]
    process = start("generate", *cluster, *INPUTS, *SHORT, *outputs, folder=tmp_path)
    started = processes_of(process, START_PATIENCE_S)
    code, output = finish(process, PATIENCE_S)
    assert code == ExitCode.BAD_INPUT
    assert output.splitlines()[-1] == "  - missing: blocks.1.norm3.bias"
    assert "raylet" not in output  # what Ray says of its end
    assert started
    assert all_gone(started)


@pytest.mark.timeout(900)
def test_generate_agrees_with_the_published_code(golden: Path, tmp_path: Path) -> None:
    inputs = ["--image", str(golden / "case/image.png"), "--camera", str(golden / "case")]
    prompt = ["--prompt-file", str(golden / "case/prompt.txt")]
    sampling = ["--size", "160x96", "--num-frames", "17", "--steps", "6", "--seed", "42"]
    published = ["--solver", "unipc", "--shift", "10", "--guidance", "5,5", "--boundary", "0.947"]
    gang = [
        "--checkpoint",
        str(golden / "checkpoint"),
        "--gang-size",
        "2",
        "--sharding",
        "per_block",
    ]
    outputs = ["--output", "clip.mp4", "--tensors", "clip.safetensors"]
    command = ["generate", *inputs, *prompt, *sampling, *published, *gang, *outputs]
    code, output = finish(start(*command, folder=tmp_path), START_PATIENCE_S)
    assert code == ExitCode.DONE, output
    ours = load_file(tmp_path / "clip.safetensors")
    expected = golden_results(golden)
    final = expected["latent_steps"][-1].numpy()
    assert np.linalg.norm(ours["latents"] - final) <= 1e-3 * np.linalg.norm(final)
    video = expected["video"].numpy().clip(-1, 1).transpose(1, 2, 3, 0)
    published_bytes = ((video + 1) / 2 * 255).astype(np.uint8)
    difference = np.abs(ours["frames"].astype(np.float32) - published_bytes)
    assert difference.mean() * 2 / 255 <= 2e-3
