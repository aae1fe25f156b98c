"""What is refused before a local cluster starts."""

import socket
from pathlib import Path

import pytest
import ray

from deployments.launch import start_local
from deployments.readiness import StartupError
from model.checkpoint.layout import CheckpointPaths
from tests.support.server import small_config


def test_a_taken_port_is_named(synthetic_checkpoint: CheckpointPaths, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        config = small_config(synthetic_checkpoint.root, tmp_path, port=port, gang_size=1)
        with pytest.raises(StartupError, match=f"cannot listen on 127.0.0.1:{port}"):
            start_local(config)
    assert not ray.is_initialized()
