"""Pulls from a hub on this machine that breaks in the middle."""

import hashlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lingbot_serve.errors import HubError, HubUnreachableError, IntegrityError
from lingbot_serve.models.hub import Hub, Source
from lingbot_serve.models.huggingface import HuggingFaceHub
from lingbot_serve.models.manifest import read_manifest
from lingbot_serve.models.modelscope import ModelScopeHub
from lingbot_serve.models.pull import PullSettings, PullView, pull
from model.checkpoint.manifest import MANIFEST
from tests.support.hub import COMMIT, LocalHub, serving

ROOT = Path(__file__).resolve().parents[2]
REPO = "someone/weights"
WEIGHTS = "dit/model.safetensors"
FILES = {
    WEIGHTS: bytes(range(256)) * 1200,
    "encoder.pth": b"pickled" * 9000,
    "dit/config.json": b'{"dim": 8}',
    "empty.txt": b"",
}
SETTINGS = PullSettings(REPO, first_pause_s=0.01)


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    with serving(LocalHub(REPO, FILES)) as hub:
        yield hub


@pytest.fixture(params=list(Source))
def remote(request: pytest.FixtureRequest, hub: LocalHub) -> Hub:
    kinds = {Source.HUGGING_FACE: HuggingFaceHub, Source.MODELSCOPE: ModelScopeHub}
    chosen: Hub = kinds[request.param](hub.url)
    return chosen


def content(folder: Path) -> dict[str, bytes]:
    """What a folder holds, hidden files left out."""
    paths = [p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")]
    found = {str(p.relative_to(folder)): p.read_bytes() for p in paths}
    found.pop(MANIFEST, None)
    return found


def test_every_file_arrives_with_a_manifest_of_its_content(
    remote: Hub, hub: LocalHub, tmp_path: Path
) -> None:
    manifest = pull(remote, SETTINGS, tmp_path)
    assert content(tmp_path) == FILES
    assert {e.path: e.sha256 for e in manifest.files} == {
        name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()
    }
    assert manifest.repo == REPO
    assert manifest.revision == (COMMIT if manifest.source is Source.HUGGING_FACE else "master")
    assert read_manifest(tmp_path) == manifest


def test_a_connection_that_is_cut_goes_on_where_it_was(
    remote: Hub, hub: LocalHub, tmp_path: Path
) -> None:
    hub.cuts[WEIGHTS] = [100_000, 50_000, 1, 0]
    pull(remote, SETTINGS, tmp_path)
    assert content(tmp_path) == FILES
    assert hub.bytes_sent[WEIGHTS] == len(FILES[WEIGHTS])


def test_a_pull_that_was_killed_goes_on_where_it_was(hub: LocalHub, tmp_path: Path) -> None:
    hub.go_on.clear()
    program = (
        "from pathlib import Path\n"
        "from lingbot_serve.models.huggingface import HuggingFaceHub\n"
        "from lingbot_serve.models.pull import PullSettings, pull\n"
        f"pull(HuggingFaceHub({hub.url!r}), PullSettings({REPO!r}), Path({str(tmp_path)!r}))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    for name in (WEIGHTS, "encoder.pth"):
        wait_for_bytes(tmp_path, name, len(FILES[name]) // 2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert read_manifest(tmp_path) is None
    weights, encoder = (
        next(tmp_path.rglob(f"{name}.*.incomplete")).stat().st_size for name in ("model", "encoder")
    )
    hub.go_on.set()
    pull(HuggingFaceHub(hub.url), SETTINGS, tmp_path)
    assert content(tmp_path) == FILES
    # Not one byte was asked for twice.
    assert (hub.starts[WEIGHTS], hub.starts["encoder.pth"]) == ([0, weights], [0, encoder])


def wait_for_bytes(folder: Path, name: str, least: int) -> None:
    """Returns once so much of a file is on the disk."""
    waiting = threading.Event()
    for _ in range(1200):
        if any(p.stat().st_size >= least for p in folder.glob(f"{name}.*.incomplete")):
            return
        waiting.wait(0.05)
    pytest.fail(f"nothing of {name} arrived")


def test_a_connection_that_brings_nothing_any_more_is_given_up(
    remote: Hub, hub: LocalHub, tmp_path: Path
) -> None:
    hub.cuts[WEIGHTS] = [1000] + [0] * 50
    with pytest.raises(HubUnreachableError, match=r"run the same command again.* after 1000 of"):
        pull(remote, SETTINGS, tmp_path)
    hub.cuts.clear()
    pull(remote, SETTINGS, tmp_path)
    assert hub.bytes_sent[WEIGHTS] == len(FILES[WEIGHTS])


def test_a_busy_hub_is_asked_again(remote: Hub, hub: LocalHub, tmp_path: Path) -> None:
    hub.statuses[WEIGHTS] = [503, 429]
    pull(remote, SETTINGS, tmp_path)
    assert content(tmp_path) == FILES


def test_a_file_that_arrives_wrong_is_fetched_once_more(
    remote: Hub, hub: LocalHub, tmp_path: Path
) -> None:
    hub.wrong[WEIGHTS] = [bytes(len(FILES[WEIGHTS]))]
    pull(remote, SETTINGS, tmp_path)
    assert content(tmp_path) == FILES


@pytest.mark.parametrize("name", [WEIGHTS, "dit/config.json"])
def test_a_file_that_stays_wrong_is_named_and_removed(
    hub: LocalHub, tmp_path: Path, name: str
) -> None:
    hub.wrong[name] = [bytes(len(FILES[name]))] * 2
    with pytest.raises(IntegrityError, match=f"{name} arrived wrong twice"):
        pull(HuggingFaceHub(hub.url), SETTINGS, tmp_path)
    assert name not in content(tmp_path)
    assert read_manifest(tmp_path) is None


def test_a_refused_file_is_not_asked_for_again(remote: Hub, hub: LocalHub, tmp_path: Path) -> None:
    hub.statuses[WEIGHTS] = [403]
    with pytest.raises(HubError, match=f"{WEIGHTS}: the hub refuses it with status 403"):
        pull(remote, SETTINGS, tmp_path)


def test_what_is_complete_is_not_transferred_again(
    remote: Hub, hub: LocalHub, tmp_path: Path
) -> None:
    pull(remote, SETTINGS, tmp_path)
    hub.bytes_sent.clear()
    pull(remote, SETTINGS, tmp_path)
    (tmp_path / WEIGHTS).unlink()
    assert hub.bytes_sent.total() == 0
    pull(remote, SETTINGS, tmp_path)
    assert set(hub.bytes_sent) == {WEIGHTS}


def test_another_content_replaces_the_old(remote: Hub, hub: LocalHub, tmp_path: Path) -> None:
    pull(remote, SETTINGS, tmp_path)
    (tmp_path / "dit" / "model.safetensors.0123.incomplete").write_bytes(b"of a revision given up")
    hub.files[WEIGHTS] = FILES[WEIGHTS][::-1]
    manifest = pull(remote, SETTINGS, tmp_path)
    assert content(tmp_path) == hub.files
    assert read_manifest(tmp_path) == manifest


def test_patterns_leave_files_out(remote: Hub, hub: LocalHub, tmp_path: Path) -> None:
    pull(remote, PullSettings(REPO, exclude=("dit/*",)), tmp_path)
    assert set(content(tmp_path)) == {"encoder.pth", "empty.txt"}


def test_an_unknown_repository_is_told_apart(hub: LocalHub, tmp_path: Path) -> None:
    unknown = PullSettings("no/such")
    with pytest.raises(HubError, match="Hugging Face has no repository no/such"):
        pull(HuggingFaceHub(hub.url), unknown, tmp_path)
    with pytest.raises(HubError, match="ModelScope has no repository no/such"):
        pull(ModelScopeHub(hub.url), unknown, tmp_path)


@pytest.mark.parametrize("kind", [HuggingFaceHub, ModelScopeHub])
def test_a_hub_that_does_not_answer_is_told_apart(kind: type[Hub], tmp_path: Path) -> None:
    with pytest.raises(HubUnreachableError, match="does not answer"):
        pull(kind("http://127.0.0.1:9"), SETTINGS, tmp_path)  # type: ignore[call-arg]


def test_pulls_at_once_transfer_once(hub: LocalHub, tmp_path: Path) -> None:
    waited = threading.Event()

    class Waiting(PullView):
        def waits(self) -> None:
            waited.set()
            hub.go_on.set()

    hub.go_on.clear()
    remote = HuggingFaceHub(hub.url)
    first = threading.Thread(target=pull, args=(remote, SETTINGS, tmp_path))
    first.start()
    assert hub.stopped.wait(30)
    pull(remote, SETTINGS, tmp_path, Waiting())
    first.join()
    assert waited.is_set()
    assert hub.bytes_sent.total() == sum(map(len, FILES.values()))
