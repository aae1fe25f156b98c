"""The stock OpenAI client against the whole product, with nothing of ours on its side."""

import io
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import av
import httpx
import numpy as np
import openai
import pytest
import uvicorn
from openai import OpenAI
from openai.types import Video

from deployments.api.routes import build_api
from deployments.api.service import VideoService
from deployments.gateway_config import GatewayConfig
from deployments.jobs.database import open_database
from deployments.keys.rights import UNLIMITED, Scope
from deployments.keys.settings import AuthMode, AuthSettings
from deployments.keys.store import KeyStore
from deployments.listeners import free_port
from tests.support.server import Server, camera, data_url, picture, wait_for_step

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")
LONG = 400  # steps: far longer than any test looks at
PROMPT = "a house by the sea"
FIRST_FRAME = ("first.png", picture(), "image/png")


def client_of(server: Server, **options: Any) -> OpenAI:
    return OpenAI(api_key="none", base_url=f"{server.url}/v1", **{"max_retries": 0, **options})


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[OpenAI]:
    with client_of(server) as client:
        yield client


def make(client: OpenAI, *, headers: dict[str, str] | None = None, **fields: Any) -> Video:
    """Creates a small video; what the client has no argument for goes into the extra body."""
    named = {name: fields.pop(name) for name in ("size", "seconds", "model") if name in fields}
    return client.videos.create(
        prompt=fields.pop("prompt", PROMPT),
        input_reference=fields.pop("input_reference", FIRST_FRAME),
        extra_body=fields,
        extra_headers=headers,
        **named,
    )


@pytest.fixture
def video(client: OpenAI) -> Iterator[Video]:
    """A video that does not get done; it is gone after the test."""
    created = make(client, num_inference_steps=LONG)
    yield created
    if client.videos.retrieve(created.id):
        client.videos.delete(created.id)


@pytest.fixture(scope="module")
def done(client: OpenAI) -> list[Video]:
    """Three finished videos, oldest first."""
    camera_path = json.dumps(camera(9))
    with ThreadPoolExecutor(2) as pool:  # as many as the server works on and lets wait
        created = list(
            pool.map(
                lambda seed: client.videos.create_and_poll(
                    prompt=PROMPT,
                    input_reference=FIRST_FRAME,
                    extra_body={"seed": seed, "camera": camera_path, "return_tensors": True},
                ),
                (1, 2, 3),
            )
        )
    return sorted(created, key=lambda video: [v.id for v in client.videos.list()].index(video.id))


# Creating


def test_a_form_with_a_file(client: OpenAI, video: Video) -> None:
    assert video.id.startswith("video_")
    assert (video.object, video.status, video.progress) == ("video", "queued", 0)
    assert (video.prompt, video.seconds, video.error) == (PROMPT, "0.5", None)
    assert abs(video.created_at - time.time()) < 60


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_each_kind_of_image(client: OpenAI, kind: str) -> None:
    upload = (f"first.{kind.lower()}", picture(kind=kind), f"image/{kind.lower()}")
    client.videos.delete(make(client, input_reference=upload).id)


def test_a_file_object_and_a_path(client: OpenAI, tmp_path: Any) -> None:
    (path := tmp_path / "first.png").write_bytes(picture())
    client.videos.delete(make(client, input_reference=path).id)
    with path.open("rb") as file:
        client.videos.delete(make(client, input_reference=file).id)


def test_a_data_url_in_the_extra_body(client: OpenAI) -> None:
    reference = {"image_url": data_url(picture())}
    created = client.videos.create(prompt=PROMPT, extra_body={"input_reference": reference})
    assert client.videos.delete(created.id).deleted


def test_a_json_body(client: OpenAI) -> None:
    fields = {"prompt": PROMPT, "input_reference": {"image_url": data_url(picture())}, "seed": 5}
    created = client.post("/videos", body=fields, cast_to=Video)
    assert created.model_extra is not None
    assert created.model_extra["seed"] == 5
    client.videos.delete(created.id)


EXTRA: dict[str, tuple[Any, str, Any]] = {
    "num_frames": (5, "num_frames", 5),
    "seed": (2**63 - 1, "seed", 2**63 - 1),
    "negative_prompt": ("dull", "prompt", PROMPT),
    "num_inference_steps": (4, "num_inference_steps", 4),
    "guidance_scale": (3.5, "notes", []),
    "guidance_scale_2": (3.5, "notes", []),
    "flow_shift": (5.0, "notes", []),
    "boundary_ratio": (0.9, "notes", []),
    "sampler": ("dpm++", "notes", []),
    "fps": (16, "fps", 16),
    "return_tensors": (True, "notes", []),
    "camera": (json.dumps(camera(5)), "num_frames", 5),
    "deadline_s": (3600, "notes", []),
    "priority": ("high", "priority", "high"),
}


@pytest.mark.parametrize("field", EXTRA)
def test_each_field_of_the_extra_body(client: OpenAI, field: str) -> None:
    sent, shown, value = EXTRA[field]
    created = make(client, **{field: sent})
    client.videos.delete(created.id)
    told = {**created.model_dump(), **(created.model_extra or {})}
    assert told[shown] == value


def test_size_and_seconds_are_the_clients_own(client: OpenAI) -> None:
    created = make(client, size="112x64", seconds="1")
    client.videos.delete(created.id)
    assert created.seconds == "1"
    assert re.fullmatch(r"\d+x\d+", created.size)


# Looking


def test_create_and_poll(client: OpenAI, done: list[Video]) -> None:
    for video in done:
        assert (video.status, video.progress, video.error) == ("completed", 100, None)
        assert video.completed_at is not None
        assert video.completed_at >= video.created_at


def test_polls_go_at_the_servers_pace(client: OpenAI, video: Video, done: list[Video]) -> None:
    running = client.videos.with_raw_response.retrieve(video.id)
    over = client.videos.with_raw_response.retrieve(done[0].id)
    assert 500 <= int(running.headers["openai-poll-after-ms"]) <= 10_000
    assert "openai-poll-after-ms" not in over.headers


def test_poll_with_an_interval(client: OpenAI, done: list[Video]) -> None:
    assert client.videos.poll(done[0].id, poll_interval_ms=50).status == "completed"


def test_retrieve_tells_the_same(client: OpenAI, done: list[Video]) -> None:
    assert client.videos.retrieve(done[0].id) == done[0]


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_in_both_orders(client: OpenAI, done: list[Video], order: Any) -> None:
    everything = [video.id for video in client.videos.list(limit=100, order=order)]
    paged = [video.id for video in client.videos.list(limit=2, order=order)]
    assert paged == everything
    assert len(set(everything)) == len(everything) >= 3


def test_orders_are_each_others_reverse(client: OpenAI, done: list[Video]) -> None:
    newest = [video.id for video in client.videos.list(order="desc")]
    assert newest[::-1] == [video.id for video in client.videos.list(order="asc")]


def test_a_page_knows_its_next(client: OpenAI, done: list[Video]) -> None:
    page = client.videos.list(limit=1)
    assert page.has_next_page()
    following = page.get_next_page()
    assert following.data[0].id != page.data[0].id
    assert [v.id for v in client.videos.list(limit=1, after=page.data[0].id).data] == [
        following.data[0].id
    ]


def test_download(client: OpenAI, done: list[Video], tmp_path: Any) -> None:
    mp4 = client.videos.download_content(done[0].id).read()
    client.videos.download_content(done[0].id).write_to_file(tmp_path / "video.mp4")
    assert (tmp_path / "video.mp4").read_bytes() == mp4
    with av.open(io.BytesIO(mp4)) as file:
        assert sum(1 for _ in file.decode(video=0)) == 9


def test_a_streamed_download(client: OpenAI, done: list[Video]) -> None:
    with client.videos.with_streaming_response.download_content(done[0].id) as answer:
        streamed = b"".join(answer.iter_bytes())
    assert streamed == client.videos.download_content(done[0].id).content


def test_a_variant_of_ours(client: OpenAI, done: list[Video]) -> None:
    tensors: Any = "tensors"
    assert len(client.videos.download_content(done[0].id, variant=tensors).read()) > 1000


def test_seeds_decide(client: OpenAI, done: list[Video]) -> None:
    first, second = (client.videos.download_content(video.id).read() for video in done[:2])
    assert not np.array_equal(np.frombuffer(first, np.uint8), np.frombuffer(second, np.uint8))


def test_delete(client: OpenAI) -> None:
    created = make(client)
    deleted = client.videos.delete(created.id)
    assert (deleted.id, deleted.deleted, deleted.object) == (created.id, True, "video.deleted")
    with pytest.raises(openai.NotFoundError):
        client.videos.delete(created.id)


def test_cancel(client: OpenAI, video: Video) -> None:
    cancelled = client.post(f"/videos/{video.id}/cancel", cast_to=Video)
    assert (cancelled.status, cancelled.model_extra and cancelled.model_extra["state_detail"]) == (
        "failed",
        "cancelled",
    )
    assert cancelled.error is not None
    assert cancelled.error.code == "cancelled"
    assert client.videos.poll(video.id).status == "failed"


def test_cancel_leaves_a_finished_video_alone(client: OpenAI, done: list[Video]) -> None:
    assert client.post(f"/videos/{done[0].id}/cancel", cast_to=Video).status == "completed"


# Sending again


def test_a_key_makes_one_video(client: OpenAI) -> None:
    headers = {"Idempotency-Key": f"one-{time.time_ns()}"}
    first, second = make(client, headers=headers), make(client, headers=headers)
    raw = client.videos.with_raw_response.create(
        prompt=PROMPT, input_reference=FIRST_FRAME, extra_headers=headers
    )
    client.videos.delete(first.id)
    assert first.id == second.id == raw.parse().id
    assert raw.headers["idempotency-replayed"] == "true"


def test_a_hundred_posts_of_one_key_make_one_video(client: OpenAI) -> None:
    headers = {"Idempotency-Key": f"storm-{time.time_ns()}"}
    with ThreadPoolExecutor(50) as pool:
        posts = [pool.submit(make, client, headers=headers) for _ in range(100)]
        ids = {post.result().id for post in posts}
    assert len(ids) == 1
    client.videos.delete(ids.pop())


def test_a_retry_that_the_client_marks_finds_its_video(client: OpenAI) -> None:
    seed = time.time_ns()
    first = make(client, seed=seed)
    retried = make(client, seed=seed, headers={"x-stainless-retry-count": "1"})
    again = make(client, seed=seed)
    for video_id in {first.id, again.id}:
        client.videos.delete(video_id)
    assert (first.id == retried.id, first.id == again.id) == (True, False)


def test_the_clients_own_retry_after_a_broken_connection(server: Server) -> None:
    """A proxy that swallows the first answer: the request arrived, and is sent once more."""
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as listener, ThreadPoolExecutor(1) as pool:
        relayed = pool.submit(_swallow_first_answer, listener, server.url)
        url = f"http://127.0.0.1:{port}/v1"
        with OpenAI(api_key="none", base_url=url, max_retries=2) as client:
            created = make(client, seed=time.time_ns())
        assert relayed.result(timeout=30) == created.id
    client_of(server).videos.delete(created.id)


def _swallow_first_answer(listener: socket.socket, url: str) -> str:
    """Passes two requests on, and answers only the second; returns the first one's video."""
    ids = []
    for swallow in (True, False):
        connection, _ = listener.accept()
        with connection:
            head, body = _read_request(connection)
            names = ("content-type", "x-stainless-retry-count")
            headers = {name: head[name] for name in names if name in head}
            answer = httpx.post(f"{url}/v1/videos", content=body, headers=headers)
            ids.append(answer.json()["id"])
            if not swallow:
                lines = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "
                connection.sendall(
                    f"{lines}{len(answer.content)}\r\n\r\n".encode() + answer.content
                )
    return str(ids[0])


def _read_request(connection: socket.socket) -> tuple[dict[str, str], bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    headers = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:])
    if "content-length" in headers:
        while len(body) < int(headers["content-length"]):
            body += connection.recv(65536)
        return {**headers, "content-type": _header(head, "content-type")}, body
    raise AssertionError("the client sends a length")


def _header(head: bytes, name: str) -> str:
    lines = head.decode().split("\r\n")
    return next(line.split(": ", 1)[1] for line in lines if line.lower().startswith(f"{name}:"))


# Errors, each as the client's own class


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "frames": ({"num_frames": 10}, "num_frames"),
    "size": ({"size": "big"}, "size"),
    "model": ({"model": "sora-2"}, "model"),
    "unknown": ({"mood": "good"}, "mood"),
    "priority": ({"priority": "first"}, "priority"),
    "image": ({"input_reference": ("a.png", b"hello", "image/png")}, "input_reference"),
    "key": ({"headers": {"Idempotency-Key": "x" * 256}}, "Idempotency-Key"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request(client: OpenAI, name: str) -> None:
    fields, param = BAD[name]
    with pytest.raises(openai.BadRequestError) as raised:
        make(client, **fields)
    error = raised.value
    assert (error.status_code, error.param, error.code) == (400, param, "invalid_value")
    assert error.type == "invalid_request_error"
    assert param in error.message
    assert error.request_id


def test_a_video_that_is_not_there(client: OpenAI) -> None:
    for call in (client.videos.retrieve, client.videos.delete, client.videos.download_content):
        with pytest.raises(openai.NotFoundError) as raised:
            call("video_0")
        assert raised.value.code == "video_not_found"
    with pytest.raises(openai.NotFoundError):
        client.videos.list(after="video_0")


def test_a_variant_that_is_not_there(client: OpenAI, done: list[Video]) -> None:
    unknown: Any = "spritesheet"
    with pytest.raises(openai.BadRequestError) as raised:
        client.videos.download_content(done[0].id, variant=unknown)
    assert raised.value.param == "variant"


def test_a_download_before_the_end(server: Server, video: Video) -> None:
    start_s = time.monotonic()
    # Its three retries would take seconds, had the server not told it that they are in vain.
    with client_of(server, max_retries=3) as patient, pytest.raises(openai.ConflictError) as raised:
        patient.videos.download_content(video.id)
    assert raised.value.code == "video_not_ready"
    assert time.monotonic() - start_s < 20
    assert raised.value.response.headers["x-should-retry"] == "false"


def test_a_key_with_another_request(client: OpenAI) -> None:
    headers = {"Idempotency-Key": f"other-{time.time_ns()}"}
    created = make(client, headers=headers)
    with pytest.raises(openai.UnprocessableEntityError) as raised:
        make(client, headers=headers, prompt="a boat")
    client.videos.delete(created.id)
    assert raised.value.code == "idempotency_mismatch"


def test_a_body_too_large_and_of_another_type(client: OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as raised:
        make(client, prompt="x" * 2**20)
    assert (raised.value.status_code, raised.value.code) == (413, "body_too_large")
    with pytest.raises(openai.APIStatusError) as raised:
        client.post(
            "/videos",
            body={},
            cast_to=Video,
            options={"headers": {"content-type": "text/plain"}},
        )
    assert raised.value.status_code == 415


def test_a_route_that_is_not_there(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.videos.remix("video_0", prompt=PROMPT)
    with pytest.raises(openai.NotFoundError):
        client.models.list()


def test_a_full_queue(server: Server, client: OpenAI) -> None:
    videos: list[Video] = []
    try:
        with pytest.raises(openai.RateLimitError) as raised:
            for _ in range(5):  # two run, two wait
                videos.append(make(client, num_inference_steps=LONG))
        assert raised.value.code == "queue_full"
        headers = raised.value.response.headers
        assert int(headers["retry-after"]) >= 1
        assert int(headers["retry-after-ms"]) >= 1
        with pytest.raises(openai.RateLimitError), client_of(server, max_retries=0) as impatient:
            make(impatient)
    finally:
        for video in videos:
            client.videos.delete(video.id)


def test_a_failed_video_through_sync_is_an_internal_server_error(
    server: Server, client: OpenAI
) -> None:
    seed = time.time_ns()
    with ThreadPoolExecutor(1) as pool:
        fields = {"input_reference": {"image_url": data_url(picture())}, "seed": seed}
        wanted = {"prompt": PROMPT, "num_inference_steps": LONG, **fields}
        waiting = pool.submit(client.post, "/videos/sync", body=wanted, cast_to=Video)
        running = _find(client, seed)
        with server.client() as http:
            wait_for_step(http, running)
        client.post(f"/videos/{running}/cancel", cast_to=Video)
        with pytest.raises(openai.InternalServerError) as raised:
            waiting.result(timeout=60)
    assert (raised.value.status_code, raised.value.code) == (500, "cancelled")
    client.videos.delete(running)


def _find(client: OpenAI, seed: int) -> str:
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s:
        for video in client.videos.list(limit=5).data:
            if video.model_extra and video.model_extra["seed"] == seed:
                return video.id
        time.sleep(0.05)
    raise TimeoutError(f"no video has the seed {seed}")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, KeyStore]]:
    """The same API where keys are asked for; it has nothing to make videos with."""
    config = GatewayConfig(
        data_dir=tmp_path_factory.mktemp("guarded"), auth=AuthSettings(mode=AuthMode.REQUIRED)
    )
    service, port = VideoService(config), free_port()
    engine = open_database(config.store_url())
    uvicorn_config = uvicorn.Config(build_api(service), port=port, log_level="warning")
    listener = uvicorn.Server(uvicorn_config)
    thread = threading.Thread(target=listener.run)
    thread.start()
    while not listener.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}/v1", KeyStore(engine)
    listener.should_exit = True
    thread.join(timeout=30)
    service.close()
    engine.dispose()


def test_no_key_and_a_wrong_one(guarded: tuple[str, KeyStore]) -> None:
    with OpenAI(api_key="wrong", base_url=guarded[0], max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError) as raised:
            stranger.videos.list()
        assert (raised.value.status_code, raised.value.code) == (401, "invalid_api_key")
        with pytest.raises(openai.AuthenticationError):
            stranger.videos.create(prompt=PROMPT, input_reference=FIRST_FRAME)


def test_a_key_that_may_only_look(guarded: tuple[str, KeyStore]) -> None:
    url, keys = guarded
    key = keys.create("reader", scopes=(Scope.READ,), quotas=UNLIMITED).secret.text
    with OpenAI(api_key=key, base_url=url, max_retries=0) as reader:
        assert list(reader.videos.list()) == []
        with pytest.raises(openai.PermissionDeniedError) as raised:
            reader.videos.create(prompt=PROMPT, input_reference=FIRST_FRAME)
    assert raised.value.code == "permission_denied"


def test_nobody_listens() -> None:
    nowhere = f"http://127.0.0.1:{free_port()}/v1"
    client = OpenAI(api_key="none", base_url=nowhere, max_retries=0)
    with client, pytest.raises(openai.APIConnectionError):
        client.videos.retrieve("video_0")


def test_a_timeout_is_the_clients_own(server: Server) -> None:
    fields = {"input_reference": {"image_url": data_url(picture())}, "num_inference_steps": LONG}
    with client_of(server, timeout=1.0) as hasty, pytest.raises(openai.APITimeoutError):
        hasty.post("/videos/sync", body={"prompt": PROMPT, **fields}, cast_to=Video)


def test_every_answer_has_one_request_id(server: Server, client: OpenAI, done: list[Video]) -> None:
    raw = client.videos.with_raw_response
    ids = [raw.retrieve(done[0].id), raw.list(), raw.download_content(done[0].id)]
    assert all(answer.headers.get_list("x-request-id") for answer in ids)
    with server.client() as http:
        places = ["/healthz", "/readyz", "/metrics", "/v1/nothing", "/v1/videos/video_0", "/docs"]
        answers = [http.get(place) for place in places]
        answers += [http.delete("/v1/videos"), http.post("/v1/videos", content=b"hello")]
        own = http.get("/v1/videos/video_0", headers={"x-request-id": "mine"})
    assert all(len(answer.headers.get_list("x-request-id")) == 1 for answer in answers)
    assert own.headers["x-request-id"] == "mine"
