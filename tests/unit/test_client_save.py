"""Downloads over connections that break, and of content that is not what was announced."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lingbot_serve.client.retries import RetryPolicy
from lingbot_serve.errors import ConflictError, IntegrityError, ServerUnreachableError
from tests.support.clients import client_of
from tests.support.scripted_server import Reply, ScriptedServer, scripted_server, video

QUICK = RetryPolicy(first_delay_s=0.001, max_delay_s=0.002, max_outage_retries=2)
CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ETAG = f'"{SHA256}"'
ARTIFACTS = {"video": {"sha256": SHA256, "bytes": len(CONTENT), "media_type": "video/mp4"}}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as server:
        yield server


@pytest.fixture(params=["sync", "async"])
def client(request: pytest.FixtureRequest, server: ScriptedServer) -> Iterator[Any]:
    with client_of(request.param, server.url, retries=QUICK) as client:
        yield client


@pytest.fixture
def job(server: ScriptedServer, client: Any) -> Any:
    return completed(client, server, artifacts=ARTIFACTS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "clip.mp4"


def completed(client: Any, server: ScriptedServer, **fields: object) -> Any:
    server.will_answer(video(status="completed", **fields))
    return client.job("video_1")


def rest_from(offset: int) -> dict[str, str]:
    return {"content_range": f"bytes {offset}-{len(CONTENT) - 1}/{len(CONTENT)}", "etag": ETAG}


def test_a_file_arrives_whole(server: ScriptedServer, job: Any, path: Path) -> None:
    server.will_send(CONTENT, etag=ETAG)
    assert job.save(path) == path
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    asked = server.asked[1]
    assert asked.line == "GET /v1/videos/video_1/content?variant=video"
    assert asked.headers["accept-encoding"] == "identity"
    assert "range" not in asked.headers


def test_a_broken_download_goes_on_where_it_broke(
    server: ScriptedServer, job: Any, path: Path
) -> None:
    server.will_send(CONTENT, cut=100, etag=ETAG)
    server.will_send(CONTENT[100:], cut=200, **rest_from(100))
    server.will_hang_up()
    server.will_send(CONTENT[300:], **rest_from(300))
    job.save(path)
    assert path.read_bytes() == CONTENT
    ranges = [asked.headers.get("range") for asked in server.asked[1:]]
    assert ranges == [None, "bytes=100-", "bytes=300-", "bytes=300-"]
    assert {asked.headers.get("if-range") for asked in server.asked[2:]} == {ETAG}


def test_a_server_without_hashes_is_resumed_by_its_etag(
    server: ScriptedServer, client: Any, path: Path
) -> None:
    job = completed(client, server)
    server.will_send(CONTENT, cut=100, etag='"v1"')
    server.will_send(CONTENT[100:], **(rest_from(100) | {"etag": '"v1"'}))
    job.save(path)
    assert path.read_bytes() == CONTENT
    assert server.asked[2].headers["if-range"] == '"v1"'


def test_changed_content_begins_anew(server: ScriptedServer, client: Any, path: Path) -> None:
    job = completed(client, server)
    server.will_send(b"something else", cut=9, etag='"v1"')
    server.will_send(CONTENT, etag='"v2"')
    job.save(path)
    assert path.read_bytes() == CONTENT


def test_what_another_process_left_is_gone_on_with(
    server: ScriptedServer, job: Any, path: Path
) -> None:
    for _ in range(QUICK.max_outage_retries + 1):
        server.will_send(CONTENT, cut=0, etag=ETAG)
    with pytest.raises(ServerUnreachableError):
        job.save(path)
    assert not path.exists()
    [partial] = path.parent.iterdir()
    partial.write_bytes(CONTENT[:77])
    server.will_send(CONTENT[77:], **rest_from(77))
    job.save(path)
    assert path.read_bytes() == CONTENT
    assert server.asked[-1].headers["range"] == "bytes=77-"


def test_a_whole_file_is_not_fetched_again(server: ScriptedServer, job: Any, path: Path) -> None:
    path.with_name(f"clip.mp4.{SHA256[:16]}.incomplete").write_bytes(CONTENT)
    job.save(path)
    assert path.read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_wrong_content_is_refused(server: ScriptedServer, job: Any, path: Path) -> None:
    server.will_send(b"X" + CONTENT[1:], etag=ETAG)
    with pytest.raises(IntegrityError, match=f"instead of {SHA256}"):
        job.save(path)
    assert list(path.parent.iterdir()) == []


def test_an_etag_that_is_a_hash_is_held_to(server: ScriptedServer, client: Any, path: Path) -> None:
    job = completed(client, server)
    server.will_send(b"X" + CONTENT[1:], etag=ETAG)
    with pytest.raises(IntegrityError):
        job.save(path)


def test_a_part_that_the_server_lacks_begins_anew(
    server: ScriptedServer, client: Any, path: Path
) -> None:
    job = completed(client, server)
    server.will_send(CONTENT, cut=100, etag='"v1"')
    server.replies.append(Reply(status=416, headers={"content-range": "bytes */50"}))
    server.will_send(CONTENT[:50], etag='"v2"')
    job.save(path)
    assert path.read_bytes() == CONTENT[:50]


def test_an_unfinished_video_has_no_file(server: ScriptedServer, client: Any, path: Path) -> None:
    server.will_answer(video())
    job = client.job("video_1")
    server.will_answer(video())
    server.will_answer({"error": {"message": "video video_1 is queued"}}, 409)
    with pytest.raises(ConflictError):
        job.save(path)
    assert list(path.parent.iterdir()) == []


def test_a_video_of_one_call_arrives_whole_too(
    server: ScriptedServer, client: Any, path: Path
) -> None:
    server.will_send(CONTENT, cut=100, etag=ETAG, x_video_id="video_1")
    server.will_send(CONTENT, etag=ETAG, x_video_id="video_1")
    server.will_answer(video(status="completed"))
    client.make(path, image=b"picture", prompt="a lake")
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    first, again = server.asked[:2]
    assert first.headers["idempotency-key"] == again.headers["idempotency-key"]


def test_a_video_of_one_call_that_came_wrong_is_not_kept(
    server: ScriptedServer, client: Any, path: Path
) -> None:
    server.will_send(CONTENT[::-1], etag=ETAG, x_video_id="video_1")
    with pytest.raises(IntegrityError):
        client.make(path, image=b"picture", prompt="a lake")
    assert list(path.parent.iterdir()) == []
