"""`lingbot-serve serve` with the shipped checkpoint, for all tests of this folder.

The last of them, in `test_shell.py`, stops it.
"""

import time
from collections.abc import Iterator

import httpx
import pytest
import yaml

from deployments.listeners import free_port
from tests.support.command_line import EXAMPLES, ServeProcess, finish, start
from tests.support.server import PATIENCE_S, START_PATIENCE_S


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeProcess]:
    """As other machines would meet it: behind HAProxy."""
    folder = tmp_path_factory.mktemp("server")
    config = yaml.safe_load((EXAMPLES / "nano.yaml").read_text())
    config["pipeline"]["checkpoint"] = str(EXAMPLES / "nano")
    config["http"] = {"port": free_port(), "front": {"mode": "on", "head_timeout_s": 2}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    url = f"http://127.0.0.1:{config['http']['port']}"
    process = start("serve", "--config", str(folder / "config.yaml"), folder=folder)
    deadline_s = time.monotonic() + START_PATIENCE_S
    while not is_ready(url):
        assert process.poll() is None, finish(process, 1)[1]
        assert time.monotonic() < deadline_s, "the server did not become ready"
        time.sleep(0.5)
    yield ServeProcess(process, url, folder)
    if process.poll() is None:
        process.terminate()
        finish(process, PATIENCE_S)


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=10).status_code == 200
    except httpx.TransportError:
        return False
