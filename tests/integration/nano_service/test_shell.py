"""A server and the command line that asks it, each in a process of its own."""

import signal
import socket
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from lingbot_serve import Client
from lingbot_serve.exit_codes import ExitCode
from tests.support.command_line import (
    EXAMPLES,
    INPUTS,
    SHORT,
    ServeProcess,
    all_gone,
    finish,
    start,
)
from tests.support.server import PATIENCE_S

LONG = ["--num-frames", "33", "--steps", "100"]


def test_a_client_that_drips_its_request_is_dropped(server: ServeProcess) -> None:
    address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(b"GET /v1/videos HTTP/1.1\r\n")
        time.sleep(1.5)
        client.sendall(b"Host: x\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 408")


@pytest.mark.timeout(900)
def test_same_seed_gives_the_same_clip(server: ServeProcess, tmp_path: Path) -> None:
    latents = []
    for name in ("first", "second"):
        flags = ["--server", server.url, "--output", f"{name}.mp4", "--tensors", name]
        code, output = finish(
            start("generate", *INPUTS, *SHORT, *flags, folder=tmp_path), PATIENCE_S
        )
        assert code == ExitCode.DONE, output
        latents.append(load_file(tmp_path / name)["latents"])
    np.testing.assert_array_equal(*latents)


def test_bad_input_names_its_field(server: ServeProcess, tmp_path: Path) -> None:
    flags = ["--server", server.url, "--num-frames", "16", "--output", "clip.mp4"]
    code, output = finish(start("generate", *INPUTS, *flags, folder=tmp_path), PATIENCE_S)
    assert code == ExitCode.BAD_INPUT
    assert output == "error: num_frames: must be 4n+1, not 16; send 13 or 17\n"
    assert list(tmp_path.iterdir()) == []


def test_interrupt_without_a_terminal_leaves_the_job_running(
    server: ServeProcess, tmp_path: Path
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


def test_wait_returns_the_finished_video(server: ServeProcess) -> None:
    with Client(server.url) as client:
        [job] = client.jobs(limit=1)
        assert job.wait().progress == 100


def test_sigterm_finishes_the_running_clip_and_leaves_no_process(server: ServeProcess) -> None:
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
