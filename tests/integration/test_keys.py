"""A gateway that asks for keys, in the whole service: who gets in, and who hears of what."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import openai
import pytest
from ray import serve

from deployments.app import build_gateway
from deployments.jobs.database import open_database
from deployments.keys.rights import Quotas
from deployments.keys.settings import AuthMode, AuthSettings
from deployments.keys.store import KeyStore
from deployments.outbound import OutboundSettings
from deployments.webhooks.settings import WebhookSettings
from tests.support.server import PATIENCE_S, Server, body, wait_for
from tests.support.webhook_receiver import running_receiver

LOCAL = OutboundSettings(allow_http=True, allow_networks=("127.0.0.0/8",))


@dataclass(frozen=True)
class Door:
    """The gateway's address, and its keys."""

    url: str
    keys: KeyStore

    def client(self, **quotas: object) -> httpx.Client:
        """A client with a new key."""
        new = self.keys.create("client", quotas=Quotas(**quotas))  # type: ignore[arg-type]
        headers = {"authorization": f"Bearer {new.secret.text}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=120)


@pytest.fixture(scope="module")
def door(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A second gateway over the same pipeline."""
    changes = {
        "data_dir": tmp_path_factory.mktemp("closed"),
        "auth": AuthSettings(mode=AuthMode.REQUIRED),
        "webhooks": WebhookSettings(outbound=LOCAL, poll_s=0.1),
    }
    gateway = server.config.gateway.model_copy(update=changes)
    serve.run(build_gateway(gateway), name="closed", route_prefix="/closed")
    engine = open_database(gateway.store_url())
    yield Door(f"{server.url}/closed", KeyStore(engine))
    engine.dispose()
    serve.delete("closed")


def test_nobody_gets_in_without_a_key(door: Door) -> None:
    assert httpx.get(f"{door.url}/healthz").status_code == 200
    assert httpx.get(f"{door.url}/metrics").status_code == 200
    with (
        openai.OpenAI(base_url=f"{door.url}/v1", api_key="wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.videos.list()
    assert caught.value.code == "invalid_api_key"
    assert caught.value.response.headers["www-authenticate"].startswith("Bearer")


def test_a_quota_refuses_a_job_before_it_is_made(door: Door) -> None:
    with door.client(max_unfinished_jobs=0) as client:
        reply = client.post("/v1/videos", json=body())
        assert (reply.status_code, reply.json()["error"]["code"]) == (429, "quota_exceeded")
        assert int(reply.headers["retry-after"]) >= 1
        assert client.get("/v1/videos").json()["data"] == []
    with door.client(max_priority="low") as client:
        reply = client.post("/v1/videos", json=body(priority="normal"))
        assert (reply.status_code, reply.json()["error"]["code"]) == (403, "permission_denied")


def test_two_owners_videos_stay_apart_and_each_hears_of_its_own(door: Door) -> None:
    with running_receiver() as receiver, door.client() as alice, door.client() as bob:
        hook = {
            "name": "n",
            "url": receiver.url,
            "event_types": ["video.completed", "video.failed"],
        }
        secret = alice.post("/v1/webhook_endpoints", json=hook).json()["signing_secret"]
        same_key = {"idempotency-key": "order-1"}
        mine, his = (
            client.post("/v1/videos", json=body(), headers=same_key).json()["id"]
            for client in (alice, bob)
        )
        assert mine != his
        assert bob.get(f"/v1/videos/{mine}").status_code == 404
        assert bob.post(f"/v1/videos/{his}/cancel").status_code == 200
        assert wait_for(alice, mine)["status"] == "completed"
        assert bob.get(f"/v1/videos/{mine}/content").status_code == 404
        deadline_s = time.monotonic() + PATIENCE_S
        while not receiver.requests and time.monotonic() < deadline_s:
            time.sleep(0.05)
    [(headers, content)] = receiver.requests
    with openai.OpenAI(api_key="unused", webhook_secret=secret) as client:
        event = client.webhooks.unwrap(content, headers)
    assert (event.type, event.data.id) == ("video.completed", mine)  # type: ignore[union-attr]
