"""Errors of the whole product, each as the stock OpenAI client's own class."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

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
from tests.support.openai_client import FIRST_FRAME, LONG, PROMPT, client_of, make
from tests.support.server import PATIENCE_S, Server, data_url, picture, wait_for_step

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


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
    deadline_s = time.monotonic() + PATIENCE_S
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
