"""The command line as a user runs it: real processes, a real cluster, the small checkpoint."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import httpx
import numpy as np
import psutil
import pytest
import yaml
from safetensors.numpy import load_file

from deployments.listeners import free_port
from lingbot_serve import Client
from lingbot_serve.exit_codes import ExitCode
from model.checkpoint.layout import CheckpointPaths
from tests.support.processes import living
from tests.support.server import PATIENCE_S, START_PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
INPUTS = [
    *("--image", str(EXAMPLES / "image.png")),
    *("--prompt-file", str(EXAMPLES / "prompt.txt")),
    *("--camera", str(EXAMPLES / "camera")),
    *("--size", "112x64"),
]
SHORT = ["--num-frames", "9", "--steps", "2", "--seed", "7"]
LONG = ["--num-frames", "33", "--steps", "100"]


@dataclass(frozen=True)
class Server:
    """A `lingbot-serve serve` that is ready."""

    process: subprocess.Popen[str]
    url: str
    folder: Path


def start(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    """Runs the command in a folder of its own, with this tree's packages."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "lingbot_serve", *arguments]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # A shell that runs the tests in the background has every process below it ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finish(process: subprocess.Popen[str], timeout_s: float) -> tuple[int, str]:
    """Waits for a command's end and returns its exit code and what it printed."""
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, output


def all_gone(processes: list[psutil.Process]) -> bool:
    """Whether every process ends within half a minute."""
    _, left = psutil.wait_procs(processes, timeout=30)
    return living(left) == []


@pytest.fixture(scope="module")
def cluster_flags(synthetic_checkpoint: CheckpointPaths) -> list[str]:
    checkpoint = str(synthetic_checkpoint.root)
    return ["--config", str(EXAMPLES / "cpu.yaml"), "--checkpoint", checkpoint]


@pytest.fixture(scope="module")
def server(cluster_flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """As other machines would meet it: behind HAProxy."""
    folder = tmp_path_factory.mktemp("server")
    config = yaml.safe_load((EXAMPLES / "cpu.yaml").read_text())
    config["http"] = {"port": free_port(), "front": {"mode": "on", "head_timeout_s": 2}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    url = f"http://127.0.0.1:{config['http']['port']}"
    flags = [*cluster_flags, "--config", str(folder / "config.yaml")]
    process = start("serve", *flags, folder=folder)
    deadline_s = time.monotonic() + START_PATIENCE_S
    while not is_ready(url):
        assert process.poll() is None, finish(process, 1)[1]
        assert time.monotonic() < deadline_s, "the server did not become ready"
        time.sleep(0.5)
    yield Server(process, url, folder)
    if process.poll() is None:
        process.terminate()
        finish(process, PATIENCE_S)


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=10).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.timeout(900)
def test_generate_on_a_cluster_of_its_own(cluster_flags: list[str], tmp_path: Path) -> None:
    outputs = ["--output", "new/clip.mp4", "--tensors", "new/clip.safetensors"]
    process = start("generate", *cluster_flags, *INPUTS, *SHORT, *outputs, folder=tmp_path)
    started: set[psutil.Process] = set()
    deadline_s = time.monotonic() + START_PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline_s:
        started |= set(psutil.Process(process.pid).children(recursive=True))
        time.sleep(0.5)
    code, output = finish(process, PATIENCE_S)
    assert code == ExitCode.DONE, output
    assert output.splitlines()[-1] == "new/clip.mp4"
    stages = ("text_encoder", "image_encoder", "vae_encoder", "denoiser", "vae_decoder")
    assert [stage for stage in stages if f"{stage}: finished in" not in output] == []
    assert started
    assert all_gone(list(started))

    tensors = load_file(tmp_path / "new/clip.safetensors")
    frames, latents = tensors["frames"], tensors["latents"]
    assert (frames.shape[0], frames.shape[3], frames.dtype) == (9, 3, np.uint8)
    assert (latents.shape[:2], latents.dtype) == ((16, 3), np.float32)
    assert (latents.shape[2] * 8, latents.shape[3] * 8) == frames.shape[1:3]
    with av.open(str(tmp_path / "new/clip.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.average_rate, stream.frames) == (16, 9)


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
    expected = load_file(golden / "case/expected.safetensors")
    final = expected["latent_steps"][-1]
    assert np.linalg.norm(ours["latents"] - final) <= 1e-3 * np.linalg.norm(final)
    video = expected["video"].clip(-1, 1).transpose(1, 2, 3, 0)
    published_bytes = ((video + 1) / 2 * 255).astype(np.uint8)
    difference = np.abs(ours["frames"].astype(np.float32) - published_bytes)
    assert difference.mean() * 2 / 255 <= 2e-3


def test_a_client_that_drips_its_request_is_dropped(server: Server) -> None:
    address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(b"GET /v1/videos HTTP/1.1\r\n")
        time.sleep(1.5)
        client.sendall(b"Host: x\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 408")


@pytest.mark.timeout(900)
def test_same_seed_gives_the_same_clip(server: Server, tmp_path: Path) -> None:
    latents = []
    for name in ("first", "second"):
        flags = ["--server", server.url, "--output", f"{name}.mp4", "--tensors", name]
        code, output = finish(
            start("generate", *INPUTS, *SHORT, *flags, folder=tmp_path), PATIENCE_S
        )
        assert code == ExitCode.DONE, output
        latents.append(load_file(tmp_path / name)["latents"])
    np.testing.assert_array_equal(*latents)


def test_bad_input_names_its_field(server: Server, tmp_path: Path) -> None:
    flags = ["--server", server.url, "--num-frames", "16", "--output", "clip.mp4"]
    code, output = finish(start("generate", *INPUTS, *flags, folder=tmp_path), PATIENCE_S)
    assert code == ExitCode.BAD_INPUT
    assert output == "error: num_frames: must be 4n+1, not 16; send 13 or 17\n"
    assert list(tmp_path.iterdir()) == []


def test_interrupt_without_a_terminal_leaves_the_job_running(
    server: Server, tmp_path: Path
) -> None:
    flags = ["--server", server.url, "--output", "clip.mp4"]
    process = start("generate", *INPUTS, *LONG, *flags, folder=tmp_path)
    assert process.stdout is not None
    while "denoiser: step" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    code, output = finish(process, PATIENCE_S)
    assert code == ExitCode.INTERRUPTED
    assert list(tmp_path.iterdir()) == []
    with Client(server.url) as client:
        [job] = client.jobs(limit=1)
        assert f"lingbot-serve jobs watch {job.id} --url {server.url}" in output
        assert job.status == "in_progress"
        job.delete()


def test_wait_returns_the_finished_video(server: Server) -> None:
    with Client(server.url) as client:
        [job] = client.jobs(limit=1)
        assert job.wait().progress == 100


def test_sigterm_finishes_the_running_clip_and_leaves_no_process(server: Server) -> None:
    family = psutil.Process(server.process.pid).children(recursive=True)
    assert len(family) > 5
    with Client(server.url) as client:
        job = client.generate(
            image=EXAMPLES / "image.png",
            prompt="a",
            size="112x64",
            num_frames=33,
            num_inference_steps=20,
        )
        while job.refresh().status == "queued":
            time.sleep(0.1)
    server.process.send_signal(signal.SIGTERM)
    code, output = finish(server.process, PATIENCE_S)
    assert code == ExitCode.DONE, output
    assert f"serving on {server.url}" in output
    stored = list((server.folder / "data").rglob("video.mp4"))
    assert [path for path in stored if job.id in path.parts] != []
    assert all_gone(family)
