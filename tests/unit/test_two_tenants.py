"""Two owners at one door: whatever belongs to the one does not exist for the other."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from deployments.jobs.tables import Job
from deployments.outbound import OutboundSettings
from deployments.webhooks.settings import WebhookSettings
from tests.support.door import Door, open_door
from tests.support.webhook_receiver import running_receiver

LOCAL = OutboundSettings(allow_http=True, allow_networks=("127.0.0.0/8",))
ALICES, BOBS = "video_of_alice", "video_of_bob"


@dataclass(frozen=True)
class Tenants:
    """Two keys; only Alice has an endpoint, with one event of hers in its log."""

    door: Door
    alice: dict[str, str]
    bob: dict[str, str]
    endpoint_id: str
    delivery_id: str

    def ask(self, method: str, path: str, headers: dict[str, str]) -> Any:
        """One request about what is Alice's."""
        names = {
            "video_id": ALICES,
            "endpoint_id": self.endpoint_id,
            "delivery_id": self.delivery_id,
        }
        body = {"event_type": "video.failed"} if path.endswith("/test") else {}
        given = {} if method == "get" or method == "delete" else {"json": body}
        return self.door.client.request(method, path.format(**names), headers=headers, **given)


@pytest.fixture
def tenants(tmp_path: Path) -> Iterator[Tenants]:
    webhooks = WebhookSettings(outbound=LOCAL)
    with running_receiver() as receiver, open_door(tmp_path, webhooks=webhooks) as door:
        (alice_id, alice), (bob_id, bob) = door.new_key("alice"), door.new_key("bob")
        endpoint = {"name": "n", "url": receiver.url, "event_types": ["video.failed"]}
        made = door.client.post("/v1/webhook_endpoints", json=endpoint, headers=alice).json()
        door.add_video(BOBS, bob_id)
        door.jobs.add(_waiting_job(alice_id))
        door.jobs.cancel(ALICES)
        path = f"/v1/webhook_endpoints/{made['id']}/deliveries"
        [delivery] = door.client.get(path, headers=alice).json()["data"]
        yield Tenants(door, alice, bob, made["id"], delivery["id"])


def _waiting_job(key_id: str) -> Job:
    return Job(
        id=ALICES,
        key_id=key_id,
        model="m",
        prompt="p",
        width=96,
        height=64,
        num_frames=17,
        seed="1",
        num_inference_steps=3,
    )


def test_no_route_leads_to_what_is_somebody_elses(tenants: Tenants) -> None:
    paths = tenants.door.client.get("/openapi.json").json()["paths"]
    about_one = [
        (method, path) for path, methods in paths.items() if "{" in path for method in methods
    ]
    assert len(about_one) >= 12
    for method, path in about_one:
        reply = tenants.ask(method, path, tenants.bob)
        assert reply.status_code == 404, (method, path)
        assert reply.json()["error"]["code"] in ("video_not_found", "webhook_not_found")
    kept = ("/v1/videos/{video_id}", "/v1/webhook_endpoints/{endpoint_id}")
    assert [tenants.ask("get", path, tenants.alice).status_code for path in kept] == [200, 200]


def test_no_list_shows_what_is_somebody_elses(tenants: Tenants) -> None:
    client = tenants.door.client
    for headers, videos, endpoints in (
        (tenants.alice, [ALICES], [tenants.endpoint_id]),
        (tenants.bob, [BOBS], []),
    ):
        shown = client.get("/v1/videos", headers=headers).json()["data"]
        assert [video["id"] for video in shown] == videos
        shown = client.get("/v1/webhook_endpoints", headers=headers).json()["data"]
        assert [endpoint["id"] for endpoint in shown] == endpoints


def test_no_cursor_is_taken_from_somebody_else(tenants: Tenants) -> None:
    for path in (
        f"/v1/videos?after={ALICES}",
        f"/v1/webhook_endpoints?after={tenants.endpoint_id}",
    ):
        client = tenants.door.client
        assert client.get(path, headers=tenants.alice).status_code == 200
        assert client.get(path, headers=tenants.bob).status_code == 404


def test_an_idempotency_key_is_its_owners(tenants: Tenants) -> None:
    for name, key_id in (("a", "alice"), ("b", "bob")):
        job = _waiting_job(key_id)
        job.id, job.idempotency_key = name, "same"
        tenants.door.jobs.add(job)
    assert {tenants.door.jobs.get(name).key_id for name in "ab"} == {"alice", "bob"}


def test_the_stock_client_manages_endpoints(tenants: Tenants) -> None:
    client = openai.OpenAI(
        base_url=f"{tenants.door.client.base_url}/v1",
        api_key=tenants.bob["authorization"].removeprefix("Bearer "),
        http_client=tenants.door.client,
        max_retries=0,
    )
    with running_receiver(200, 418) as receiver:
        made = client.webhooks.create(
            name="mine", url=receiver.url, event_types=["video.completed", "video.failed"]
        )
        assert made.signing_secret.startswith("whsec_")
        assert client.webhooks.retrieve(made.id).signing_secret_hint == (
            f"whsec_…{made.signing_secret[-4:]}"
        )
        changed = client.webhooks.update(made.id, name="ours", event_types=["video.failed"])
        assert (changed.name, changed.event_types) == ("ours", ["video.failed"])
        rotated = client.webhooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True)
        assert rotated.signing_secret != made.signing_secret
        assert [endpoint.id for endpoint in client.webhooks.list()] == [made.id]
        for status in (200, 418):
            tested = client.webhooks.test(made.id, event_type="video.failed")
            assert tested.status_code == status
        for headers, body in receiver.requests:
            for secret in (made.signing_secret, rotated.signing_secret):
                client.webhooks.verify_signature(body, headers, secret=secret)
    assert client.webhooks.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.webhooks.retrieve(made.id)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"url": "https://10.0.0.1/hook"}, "url"),
        ({"url": "https://user:secret@example.com/"}, "url"),
        ({"url": "ftp://example.com/"}, "url"),
        ({"url": "no url"}, "url"),
        ({"event_types": []}, "event_types"),
        ({"event_types": ["video.started"]}, "event_types.0"),
        ({"secret": "mine"}, "secret"),
        ({"name": ""}, "name"),
    ],
)
def test_a_bad_endpoint_is_refused(tenants: Tenants, change: dict[str, Any], param: str) -> None:
    body = {"name": "n", "url": "http://127.0.0.1/", "event_types": ["video.failed"], **change}
    reply = tenants.door.client.post("/v1/webhook_endpoints", json=body, headers=tenants.bob)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)


def test_endpoints_are_bounded(tenants: Tenants) -> None:
    body = {"name": "n", "url": "http://127.0.0.1/", "event_types": ["video.failed"]}
    ask = tenants.door.client.post
    statuses = [
        ask("/v1/webhook_endpoints", json=body, headers=tenants.bob).status_code for _ in range(11)
    ]
    assert statuses == [200] * 10 + [400]
    long = {"json": {"name": "n" * 2**17}, "headers": tenants.bob}
    assert ask("/v1/webhook_endpoints", **long).status_code == 413


def test_an_event_is_sent_once_more_by_hand(tenants: Tenants) -> None:
    [parcel] = tenants.door.deliveries.claim(9)
    tenants.door.deliveries.delivered(parcel, 200)
    path = "/v1/webhook_endpoints/{endpoint_id}/deliveries"
    [before] = tenants.ask("get", path, tenants.alice).json()["data"]
    assert (before["status"], before["attempts"]) == ("delivered", 1)
    again = tenants.ask("post", path + "/{delivery_id}/redeliver", tenants.alice).json()
    assert (again["status"], again["ended_at"]) == ("pending", None)
    assert [each.event.id for each in tenants.door.deliveries.claim(9)] == [before["id"]]
