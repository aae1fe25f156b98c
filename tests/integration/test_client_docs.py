"""The examples of docs/client.md, as they stand there, against the whole service."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import Server, picture

ROOT = Path(__file__).resolve().parents[2]
PYTHON_WRITES = [["clip.mp4"], [], ["lake-0.mp4", "lake-1.mp4"], ["openai.mp4"]]
SHELL_WRITES = [["again.mp4", "clip.mp4"], ["curl.mp4"]]
DOCUMENTED_URL = "http://127.0.0.1:8000"
SHELL = f'set -euo pipefail; lingbot-serve() {{ "{sys.executable}" -m lingbot_serve "$@"; }}\n'
NEEDED = [tool for tool in ("bash", "curl", "jq", "uuidgen") if shutil.which(tool) is None]


def blocks(language: str) -> list[str]:
    """The page's examples in one language."""
    page = (ROOT / "docs/client.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


@pytest.fixture
def folder(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the examples run: an image as small as the server of the tests wants it."""
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples/image.png").write_bytes(picture())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINGBOT_BASE_URL", f"{server.url}/v1")
    return tmp_path


@pytest.mark.parametrize(
    ("source", "written"),
    list(zip(blocks("python"), PYTHON_WRITES, strict=True)),
    ids=["sync", "events", "async", "openai"],
)
def test_python(server: Server, folder: Path, source: str, written: list[str]) -> None:
    exec(compile(source.replace(DOCUMENTED_URL, server.url), "docs/client.md", "exec"), {})
    assert sorted(path.name for path in folder.glob("*.mp4")) == written


@pytest.mark.skipif(bool(NEEDED), reason=f"{NEEDED} are not installed")
@pytest.mark.parametrize(
    ("source", "written"),
    list(zip(blocks("sh"), SHELL_WRITES, strict=True)),
    ids=["commands", "curl"],
)
def test_shell(server: Server, folder: Path, source: str, written: list[str]) -> None:
    script = SHELL + source.replace(DOCUMENTED_URL, server.url)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in folder.glob("*.mp4")) == written
