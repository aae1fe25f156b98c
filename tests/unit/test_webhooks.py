"""The ends of jobs, told to real receivers: written with the end, signed, tried again."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from openai import InvalidWebhookSignatureError
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session
from standardwebhooks import Webhook

from deployments.errors import EndpointDisabledError, LeaseLostError, WebhookNotFoundError
from deployments.jobs.claims import Claim, Claims
from deployments.jobs.database import open_database
from deployments.jobs.store import JobStore
from deployments.jobs.tables import Job
from deployments.outbound import OutboundClient, OutboundSettings
from deployments.webhooks.deliveries import DeliveryQueue
from deployments.webhooks.endpoints import EndpointStore
from deployments.webhooks.sender import Sender
from deployments.webhooks.settings import WebhookSettings
from deployments.webhooks.tables import (
    DELIVERED,
    EVENT_TYPES,
    GIVEN_UP,
    PENDING,
    VIDEO_FAILED,
    WebhookDelivery,
    WebhookEndpoint,
)
from tests.support.webhook_receiver import Receiver, running_receiver

LOCAL = OutboundSettings(allow_http=True, allow_networks=("127.0.0.0/8",))
SETTINGS = WebhookSettings(outbound=LOCAL, first_retry_s=0.01, poll_s=0.02)


def add_job(engine: Engine, name: str, key_id: str = "") -> None:
    JobStore(engine).add(
        Job(
            id=name,
            model="m",
            prompt="p",
            width=96,
            height=64,
            num_frames=17,
            seed="1",
            num_inference_steps=3,
            key_id=key_id,
        )
    )


def add_endpoint(
    engine: Engine, url: str = "https://example.com", *, key_id: str = "", events: str = ""
) -> WebhookEndpoint:
    store = EndpointStore(engine, max_endpoints=100)
    chosen = [events] if events else list(EVENT_TYPES)
    return store.create(key_id, name="n", url=url, event_types=chosen)


def rows(engine: Engine) -> list[WebhookDelivery]:
    with Session(engine, expire_on_commit=False) as session:
        return list(session.scalars(select(WebhookDelivery).order_by(WebhookDelivery.number)))


def cancelled_job(engine: Engine, name: str = "a", key_id: str = "") -> None:
    add_job(engine, name, key_id)
    JobStore(engine).cancel(name)


def test_every_end_of_a_job_writes_its_event(engine: Engine) -> None:
    everything, failures = add_endpoint(engine), add_endpoint(engine, events=VIDEO_FAILED)
    add_endpoint(engine, key_id="somebody-else")
    for name in ("done", "broken", "lost", "cancelled"):
        add_job(engine, name)
    store, claims = JobStore(engine), Claims(engine, "g", lease_s=-1)
    held = {claim.job_id: claim for claim in claims.claim(9)}
    claims.complete(held["done"])
    claims.fail(held["broken"], "rank_died", "rank 1 died")
    store.cancel("cancelled")
    while store.get("lost").status != "failed":
        claims.recover()
        claims.claim(9)
    add_job(engine, "forgotten")
    assert claims.expire(-1) == ["forgotten"]
    written = [
        (row.endpoint_id, row.event_type, row.video_id, row.error_code) for row in rows(engine)
    ]
    ends = [
        ("video.completed", "done", None),
        ("video.failed", "broken", "rank_died"),
        ("video.failed", "cancelled", "cancelled"),
        ("video.failed", "lost", "interrupted"),
        ("video.failed", "forgotten", "expired"),
    ]
    assert {w[1:] for w in written if w[0] == everything.id} == set(ends)
    assert {w[1:] for w in written if w[0] == failures.id} == set(ends[1:])
    assert len(written) == 9


def test_an_end_that_is_refused_writes_nothing(engine: Engine) -> None:
    add_endpoint(engine)
    add_job(engine, "a")
    with pytest.raises(LeaseLostError):
        Claims(engine, "g", lease_s=60).complete(Claim("a", 1))
    assert rows(engine) == []


def test_gateways_take_each_event_once(engine: Engine) -> None:
    add_endpoint(engine)
    for number in range(12):
        cancelled_job(engine, f"v{number}")
    taken: list[int] = []

    def take() -> None:
        queue = DeliveryQueue(engine, SETTINGS)
        while parcels := queue.claim(2):
            taken.extend(parcel.number for parcel in parcels)

    threads = [threading.Thread(target=take) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(row.number for row in rows(engine))


def test_an_event_of_a_gateway_that_died_is_taken_again(engine: Engine) -> None:
    add_endpoint(engine)
    cancelled_job(engine)
    queue = DeliveryQueue(engine, SETTINGS)
    [first] = queue.claim(9)
    assert queue.claim(9) == []
    with engine.begin() as connection:
        connection.execute(text("UPDATE webhook_deliveries SET next_at = 0"))
    [second] = queue.claim(9)
    assert (second.event, second.attempt) == (first.event, 2)
    queue.delivered(first, 200)
    assert [row.status for row in rows(engine)] == [PENDING]
    queue.delivered(second, 200)
    assert [row.status for row in rows(engine)] == [DELIVERED]


def test_what_nobody_takes_is_given_up_and_can_be_sent_again(engine: Engine) -> None:
    endpoint = add_endpoint(engine)
    cancelled_job(engine)
    queue = DeliveryQueue(engine, SETTINGS.model_copy(update={"retry_for_s": 0.0}))
    [parcel] = queue.claim(9)
    assert not queue.failed(parcel, 500, "answered 500")
    [row] = rows(engine)
    assert (row.status, row.last_status, row.last_error) == (GIVEN_UP, 500, "answered 500")
    with pytest.raises(WebhookNotFoundError):
        queue.redeliver(endpoint.id, row.id, "somebody-else")
    queue.redeliver(endpoint.id, row.id, "")
    [again] = queue.claim(9)
    assert again.event == parcel.event
    queue.delivered(again, 204)


def test_the_log_is_kept_for_a_while(engine: Engine) -> None:
    add_endpoint(engine)
    for name in ("old", "new", "waits"):
        cancelled_job(engine, name)
    queue = DeliveryQueue(engine, SETTINGS)
    old, new = queue.claim(2)
    for parcel in (old, new):
        queue.delivered(parcel, 200)
    with Session(engine) as session, session.begin():
        session.get_one(WebhookDelivery, old.number).ended_at = time.time() - SETTINGS.keep_s - 1
    assert queue.prune() == 1
    assert sorted(row.video_id for row in rows(engine)) == ["new", "waits"]


def send_all(engine: Engine, receiver: Receiver, num_requests: int) -> None:
    """Runs a sender until the receiver has had so many requests and nothing is under way."""

    async def run() -> None:
        sender = Sender(DeliveryQueue(engine, SETTINGS), OutboundClient(LOCAL), SETTINGS)
        sender.start()
        deadline_s = time.monotonic() + 60
        while len(receiver.requests) < num_requests and time.monotonic() < deadline_s:
            await asyncio.sleep(0.01)
        await sender.stop()

    asyncio.run(run())
    assert len(receiver.requests) == num_requests


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    yield engine
    engine.dispose()


def test_a_receiver_can_verify_what_it_gets(database: Engine) -> None:
    with running_receiver() as receiver:
        endpoint = add_endpoint(database, receiver.url)
        cancelled_job(database)
        send_all(database, receiver, 1)
    [(headers, body)] = receiver.requests
    event = Webhook(endpoint.secret).verify(body, headers)
    assert event["type"] == VIDEO_FAILED
    assert event["data"] == {"id": "a", "status": "failed", "error": {"code": "cancelled"}}
    assert event["id"] == headers["webhook-id"]
    # The stock client verifies it too.
    client = openai.OpenAI(api_key="unused", webhook_secret=endpoint.secret)
    assert client.webhooks.unwrap(body, headers).data.id == "a"  # type: ignore[union-attr]
    with pytest.raises(InvalidWebhookSignatureError):
        client.webhooks.unwrap(body.replace(b"cancelled", b"completed"), headers)
    assert [row.status for row in rows(database)] == [DELIVERED]


def test_a_rotated_secret_signs_beside_the_old_one(database: Engine) -> None:
    store = EndpointStore(database, max_endpoints=9)
    with running_receiver() as receiver:
        old = add_endpoint(database, receiver.url)
        new = store.rotate(old.id, "", keep_old=True)
        cancelled_job(database)
        send_all(database, receiver, 1)
        store.rotate(old.id, "", keep_old=False)
        cancelled_job(database, "b")
        send_all(database, receiver, 2)
    headers, body = receiver.requests[0]
    assert len(headers["webhook-signature"].split()) == 2
    for secret in (old.secret, new.secret):
        Webhook(secret).verify(body, headers)
    assert len(receiver.requests[1][0]["webhook-signature"].split()) == 1


def test_the_same_event_comes_again_until_it_is_taken(database: Engine) -> None:
    with running_receiver(500, 302, 429, 200) as receiver:
        endpoint = add_endpoint(database, receiver.url)
        cancelled_job(database)
        send_all(database, receiver, 4)
    assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 1
    assert len({body for _, body in receiver.requests}) == 1
    for headers, body in receiver.requests:
        Webhook(endpoint.secret).verify(body, headers)
    [row] = rows(database)
    assert (row.status, row.attempts, row.last_status) == (DELIVERED, 4, 200)


def test_an_endpoint_that_hangs_keeps_nobody_waiting(database: Engine) -> None:
    settings = SETTINGS.model_copy(update={"max_concurrent_per_endpoint": 2})
    assert settings.outbound.max_concurrent > 2
    with socket.create_server(("127.0.0.1", 0)) as hanging, running_receiver() as receiver:
        add_endpoint(database, f"http://127.0.0.1:{hanging.getsockname()[1]}")
        for number in range(settings.outbound.max_concurrent):
            cancelled_job(database, f"hangs{number}")
        add_endpoint(database, receiver.url)
        cancelled_job(database, "comes")

        async def run() -> None:
            sender = Sender(DeliveryQueue(database, settings), OutboundClient(LOCAL), settings)
            sender.start()
            begin_s = time.monotonic()
            while not receiver.requests:
                assert time.monotonic() - begin_s < LOCAL.timeout_s / 2, "it waits behind the other"
                await asyncio.sleep(0.01)
            sender.loop.check()
            await sender.loop.stop()

        asyncio.run(run())


def test_gone_ends_it_all(database: Engine) -> None:
    with running_receiver(410) as receiver:
        endpoint = add_endpoint(database, receiver.url)
        cancelled_job(database)
        send_all(database, receiver, 1)
    cancelled_job(database, "later")
    [row] = rows(database)
    assert (row.status, row.last_status) == (GIVEN_UP, 410)
    with pytest.raises(EndpointDisabledError):
        DeliveryQueue(database, SETTINGS).redeliver(endpoint.id, row.id, "")


def test_nothing_is_sent_inside_unless_it_is_allowed(database: Engine) -> None:
    with running_receiver() as receiver:
        add_endpoint(database, receiver.url)
        cancelled_job(database)

        async def run() -> None:
            queue = DeliveryQueue(database, SETTINGS)
            sender = Sender(queue, OutboundClient(OutboundSettings(allow_http=True)), SETTINGS)
            sender.start()
            while not rows(database)[0].last_error:
                await asyncio.sleep(0.01)
            await sender.stop()

        asyncio.run(asyncio.wait_for(run(), 20))
    assert receiver.requests == []
    assert rows(database)[0].status == PENDING
