"""Files over HTTP, by the real application over a real store and database; no stage runs."""

import hashlib
import time
from base64 import b64decode
from collections.abc import Iterator
from email.parser import BytesParser
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from deployments.api.file_response import CHUNK_BYTES
from deployments.api.routes import build_api
from deployments.api.service import VideoService
from deployments.artifacts.objects import Objects
from deployments.artifacts.store import ArtifactStore
from deployments.gateway_config import GatewayConfig
from deployments.jobs.database import open_database
from deployments.jobs.store import JobStore
from deployments.jobs.tables import COMPLETED, Job
from deployments.messages import VideoResult
from tests.support.s3 import BUCKET

MP4 = bytes(range(256)) * (CHUNK_BYTES // 256 * 2) + b"end"
URL = "/v1/videos/video_1/content"


def add_job(config: GatewayConfig, name: str, **columns: object) -> None:
    engine = open_database(config.store_url())
    job = Job(
        id=name,
        model="m",
        prompt="p",
        width=96,
        height=64,
        num_frames=17,
        seed="1",
        num_inference_steps=3,
        status=COMPLETED,
        completed_at=time.time(),
        **columns,
    )
    JobStore(engine).add(job)
    engine.dispose()


def serving(config: GatewayConfig) -> Iterator[TestClient]:
    store = ArtifactStore(Objects(config.artifacts_url))
    results = store.write_result("video_1", 1, VideoResult(MP4, None, None))
    add_job(config, "video_1", **results)
    late = {**results, "expires_at": time.time() - 1}
    add_job(config, "video_expired", **late)
    entry = {**results["artifacts"]["video"], "name": "video_lost/1/video.mp4"}
    add_job(config, "video_lost", artifacts={"video": entry})
    service = VideoService(config)
    with TestClient(build_api(service), follow_redirects=False) as client:
        yield client
    service.close()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    yield from serving(GatewayConfig(data_dir=tmp_path_factory.mktemp("data")))


def test_the_whole_file_and_what_is_said_of_it(client: TestClient) -> None:
    answer = client.get(URL)
    assert (answer.status_code, answer.content) == (200, MP4)
    headers = answer.headers
    assert headers["content-length"] == str(len(MP4))
    assert headers["content-type"] == "video/mp4"
    assert headers["content-disposition"] == 'attachment; filename="video_1.mp4"'
    assert headers["etag"] == f'"{hashlib.sha256(MP4).hexdigest()}"'
    digest = headers["repr-digest"].removeprefix("sha-256=:").removesuffix(":")
    assert b64decode(digest) == hashlib.sha256(MP4).digest()
    assert headers["cache-control"] == "private, max-age=31536000, immutable"


def test_head_says_the_same_without_a_body(client: TestClient) -> None:
    whole, head = client.get(URL), client.head(URL)
    assert (head.status_code, head.content) == (200, b"")
    assert {k: v for k, v in head.headers.items()} == {k: v for k, v in whole.headers.items()}


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [
        ("bytes=4-11", 4, 12),
        ("bytes=-3", len(MP4) - 3, len(MP4)),
        (f"bytes={CHUNK_BYTES - 1}-", CHUNK_BYTES - 1, len(MP4)),
        ("bytes=0-1,1-5", 0, 6),
    ],
)
def test_a_range_is_a_part(client: TestClient, wanted: str, start: int, end: int) -> None:
    answer = client.get(URL, headers={"range": wanted})
    assert (answer.status_code, answer.content) == (206, MP4[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(MP4)}"
    assert answer.headers["content-length"] == str(end - start)


def test_several_ranges_are_the_parts_of_one_message(client: TestClient) -> None:
    answer = client.get(URL, headers={"range": "bytes=0-3,100-104"})
    assert answer.status_code == 206
    assert answer.headers["content-length"] == str(len(answer.content))
    head = f"content-type: {answer.headers['content-type']}\r\n\r\n".encode()
    parts = BytesParser().parsebytes(head + answer.content).get_payload()
    assert [part["content-range"] for part in parts] == [
        f"bytes 0-3/{len(MP4)}",
        f"bytes 100-104/{len(MP4)}",
    ]
    assert [part.get_payload(decode=True) for part in parts] == [MP4[:4], MP4[100:105]]


def test_a_range_behind_the_end_is_told_where_the_end_is(client: TestClient) -> None:
    answer = client.get(URL, headers={"range": f"bytes={len(MP4)}-"})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(MP4)}"
    assert answer.json()["error"]["code"] == "range_not_satisfiable"


@pytest.mark.parametrize("tag", ["{}", "W/{}", '"other", {}', "*"])
def test_who_has_the_file_is_not_sent_it_again(client: TestClient, tag: str) -> None:
    etag = client.head(URL).headers["etag"]
    for method in ("GET", "HEAD"):
        answer = client.request(method, URL, headers={"if-none-match": tag.format(etag)})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == etag
    assert client.get(URL, headers={"if-none-match": '"other"'}).status_code == 200


def test_a_part_of_another_file_is_not_sent(client: TestClient) -> None:
    etag = client.head(URL).headers["etag"]
    for tag, status in ((etag, 206), ('"other"', 200), (f"W/{etag}", 200)):
        answer = client.get(URL, headers={"range": "bytes=0-0", "if-range": tag})
        assert answer.status_code == status


def test_what_cannot_be_had(client: TestClient) -> None:
    def refusal(video_id: str, **query: str) -> tuple[int, str]:
        answer = client.get(f"/v1/videos/{video_id}/content", params=query)
        return answer.status_code, answer.json()["error"]["code"]

    assert refusal("video_expired") == (410, "expired")
    assert refusal("video_lost") == (404, "file_missing")
    assert refusal("video_never") == (404, "video_not_found")
    assert refusal("video_1", variant="tensors") == (404, "variant_not_found")
    assert refusal("video_1", variant="sound") == (400, "invalid_value")


def test_deleting_a_video_deletes_its_files(tmp_path: Path) -> None:
    config = GatewayConfig(data_dir=tmp_path)
    for client in serving(config):
        assert client.delete("/v1/videos/video_1").status_code == 200
        assert client.get(URL).status_code == 404
        assert list(Objects(config.artifacts_url).list("video_1")) == []


@pytest.mark.parametrize("serve", ["proxy", "redirect"])
def test_files_of_an_object_store(tmp_path: Path, serve: str, s3: dict[str, str]) -> None:
    artifacts = {"url": f"s3://{BUCKET}/{tmp_path.name}", "serve": serve}
    config = GatewayConfig.model_validate({"data_dir": tmp_path, "artifacts": artifacts})
    for client in serving(config):
        answer = client.get(URL, headers={"range": "bytes=4-7"})
        if serve == "redirect":
            assert answer.status_code == 307
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["location"].startswith(s3["AWS_ENDPOINT_URL"])
            assert client.head(URL).headers["content-length"] == str(len(MP4))
        else:
            assert (answer.status_code, answer.content) == (206, MP4[4:8])
