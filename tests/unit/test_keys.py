"""Keys in a real database: found by their secret, rotated, revoked, and held to their quotas."""

import threading
import time

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from deployments.api.identity import Caller
from deployments.errors import PermissionDeniedError, QuotaExceededError
from deployments.jobs.store import JobStore
from deployments.jobs.tables import Job
from deployments.keys.charge import Charge
from deployments.keys.rights import Quotas, Scope
from deployments.keys.secret import new_secret, read_secret
from deployments.keys.settings import AuthMode, AuthSettings, listener_problem
from deployments.keys.store import KeyStore
from deployments.keys.tables import ApiKeySecret, KeyUsage
from model.errors import InvalidInputError


def job(name: str, key_id: str, gpu_seconds: float = 0.0) -> Job:
    """A job for gangs of two GPUs."""
    return Job(
        id=name,
        model="m",
        prompt="p",
        width=96,
        height=64,
        num_frames=17,
        seed="1",
        num_inference_steps=3,
        key_id=key_id,
        predicted_s=gpu_seconds / 2,
    )


def test_a_secret_leads_to_its_key_and_is_stored_nowhere(engine: Engine) -> None:
    keys = KeyStore(engine)
    quotas = Quotas(requests_per_minute=60, max_priority="normal")
    new = keys.create("studio", scopes=[Scope.READ], quotas=quotas)
    caller = keys.find(new.secret)
    assert caller is not None
    assert (caller.key_id, caller.scopes) == (new.record.key.id, {Scope.READ})
    assert caller.quotas == quotas
    assert keys.find(new_secret()) is None
    with Session(engine) as session:
        [row] = session.scalars(select(ApiKeySecret))
    assert new.secret.text not in (row.sha256, row.prefix)
    assert new.secret.text.startswith(row.prefix) and len(row.prefix) == 10
    assert keys.get(caller.key_id).key.last_used_at == pytest.approx(time.time(), abs=60)


def test_a_rotated_key_is_known_by_both_secrets_until_the_old_one_ends(engine: Engine) -> None:
    keys = KeyStore(engine)
    first = keys.create("studio")
    key_id = first.record.key.id
    second = keys.rotate(key_id, grace_s=3600)
    assert {keys.find(s.secret).key_id for s in (first, second)} == {key_id}  # type: ignore[union-attr]
    third = keys.rotate(key_id, grace_s=3600)
    assert keys.find(first.secret) is None
    assert keys.find(second.secret) is not None
    keys.drop_old_secrets(key_id)
    assert keys.find(second.secret) is None
    fourth = keys.rotate(key_id, grace_s=0)
    assert keys.find(third.secret) is None
    assert keys.find(fourth.secret) is not None
    assert keys.get(key_id).secrets[0].prefix == fourth.secret.prefix


def test_a_key_that_is_over_is_worth_nothing(engine: Engine) -> None:
    keys = KeyStore(engine)
    expired = keys.create("old", expires_at=time.time() - 1)
    revoked = keys.create("bad")
    keys.revoke(revoked.record.key.id)
    for new in (expired, revoked):
        assert keys.find(new.secret) is None
        with pytest.raises(InvalidInputError, match="is over"):
            keys.rotate(new.record.key.id, grace_s=0)
    with pytest.raises(InvalidInputError, match="key_none"):
        keys.revoke("key_none")


def test_jobs_that_come_at_once_stay_within_the_quota(engine: Engine) -> None:
    keys, store = KeyStore(engine), JobStore(engine)
    quotas = Quotas(max_unfinished_jobs=3)
    key_id = keys.create("studio", quotas=quotas).record.key.id
    other = keys.create("other", quotas=quotas).record.key.id
    refused: list[QuotaExceededError] = []

    def send(number: int) -> None:
        try:
            store.add(job(f"a{number}", key_id), Charge(quotas))
        except QuotaExceededError as error:
            refused.append(error)

    threads = [threading.Thread(target=send, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (store.num_unfinished(), len(refused)) == (3, 5)
    assert refused[0].retry_after_s
    store.add(job("b", other), Charge(quotas))
    mine, _ = store.page(key_id=key_id, after=None, limit=1, newest_first=True)
    store.cancel(mine[0].id)
    store.add(job("again", key_id), Charge(quotas))


def test_a_days_gpu_seconds_are_not_won_back_by_deleting(engine: Engine) -> None:
    keys, store = KeyStore(engine), JobStore(engine)
    quotas = Quotas(gpu_seconds_per_day=1000)
    key_id = keys.create("studio", quotas=quotas).record.key.id
    store.add(job("a", key_id, 600), Charge(quotas, gpus_per_gang=2))
    store.delete("a")
    with pytest.raises(QuotaExceededError, match="600 are taken") as caught:
        store.add(job("b", key_id, 600), Charge(quotas, gpus_per_gang=2))
    assert 0 < (caught.value.retry_after_s or 0) <= 86_400
    store.add(job("c", key_id, 400), Charge(quotas, gpus_per_gang=2))
    with Session(engine) as session, session.begin():
        usage = session.get_one(KeyUsage, key_id)
        assert usage.gpu_seconds == 1000
        usage.day -= 1
    store.add(job("tomorrow", key_id, 1000), Charge(quotas, gpus_per_gang=2))


def test_a_refused_job_is_not_charged(engine: Engine) -> None:
    keys, store = KeyStore(engine), JobStore(engine)
    quotas = Quotas(max_unfinished_jobs=1, gpu_seconds_per_day=1000)
    key_id = keys.create("studio", quotas=quotas).record.key.id
    store.add(job("a", key_id, 10), Charge(quotas, gpus_per_gang=2))
    for number in range(5):
        with pytest.raises(QuotaExceededError, match="unfinished"):
            store.add(job(f"b{number}", key_id, 900), Charge(quotas, gpus_per_gang=2))
    with Session(engine) as session:
        assert session.get_one(KeyUsage, key_id).gpu_seconds == 10


def test_a_priority_above_the_keys_is_refused() -> None:
    caller = Caller("k", quotas=Quotas(max_priority="normal"))
    for allowed in ("low", "normal"):
        caller.check_priority(allowed)
    with pytest.raises(PermissionDeniedError, match="normal at most"):
        caller.check_priority("high")


def test_only_the_shape_of_a_secret_reaches_the_database() -> None:
    good = new_secret()
    assert read_secret(good.text) == good
    for text_ in ("", "unused", good.text[:-1], good.text + "x", "sk-" + good.text[4:]):
        assert read_secret(text_) is None


@pytest.mark.parametrize(
    ("host", "mode", "refused"),
    [
        ("127.0.0.1", AuthMode.AUTO, False),
        ("127.8.9.1", AuthMode.AUTO, False),
        ("::1", AuthMode.AUTO, False),
        ("localhost", AuthMode.AUTO, False),
        ("0.0.0.0", AuthMode.AUTO, True),
        ("::", AuthMode.AUTO, True),
        ("10.0.0.7", AuthMode.AUTO, True),
        ("gpu-node-3", AuthMode.AUTO, True),
        ("0.0.0.0", AuthMode.REQUIRED, False),
        ("0.0.0.0", AuthMode.OFF, False),
    ],
)
def test_strangers_are_let_in_only_on_purpose(host: str, mode: AuthMode, refused: bool) -> None:
    assert (listener_problem(host, AuthSettings(mode=mode)) is not None) is refused
