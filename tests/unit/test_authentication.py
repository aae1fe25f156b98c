"""The real API over a real database, with keys: what each may do, and what is hidden from whom."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.api.authentication import OPEN_PATHS
from deployments.keys.rights import Scope
from deployments.keys.secret import new_secret
from deployments.keys.settings import AuthMode, AuthSettings
from tests.support.door import Door, open_door


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with open_door(tmp_path) as door:
        yield door


@pytest.mark.parametrize(
    "header",
    [
        *(None, "", "Bearer", "Bearer unused", "Basic YTpi"),
        pytest.param(f"Bearer {new_secret().text}", id="somebody else's"),
    ],
)
def test_without_a_good_key_nobody_gets_in(door: Door, header: str | None) -> None:
    headers = {} if header is None else {"authorization": header}
    for method, path in (("GET", "/v1/videos"), ("POST", "/v1/videos"), ("DELETE", "/v1/videos/v")):
        reply = door.client.request(method, path, headers=headers)
        assert reply.status_code == 401
        assert reply.headers["www-authenticate"].startswith("Bearer")
        assert reply.json()["error"]["code"] == "invalid_api_key"


def test_every_route_but_the_probes_is_closed(door: Door) -> None:
    assert door.client.get("/healthz").status_code == 200
    paths = door.client.get("/openapi.json").json()["paths"]
    assert {"/", "/healthz", "/readyz", "/metrics"} == OPEN_PATHS
    assert paths.keys() >= OPEN_PATHS - {"/"}
    closed = {path: methods for path, methods in paths.items() if path not in OPEN_PATHS}
    routes = [(method, path) for path, methods in closed.items() for method in methods]
    assert len(routes) >= 6
    answers = {
        (method, path): door.client.request(
            method, path.format(video_id="v", endpoint_id="w", delivery_id="d")
        ).status_code
        for method, path in routes
    }
    assert set(answers.values()) == {401}, answers


def test_a_scope_that_is_missing_is_named(door: Door) -> None:
    _, reader = door.new_key("reader", Scope.READ)
    _, writer = door.new_key("writer", Scope.WRITE)
    assert door.client.get("/v1/videos", headers=reader).status_code == 200
    for method, path, headers, scope in (
        ("POST", "/v1/videos", reader, "videos:write"),
        ("DELETE", "/v1/videos/v", reader, "videos:write"),
        ("GET", "/v1/videos", writer, "videos:read"),
    ):
        reply = door.client.request(method, path, headers=headers)
        assert (reply.status_code, reply.json()["error"]["code"]) == (403, "permission_denied")
        assert scope in reply.json()["error"]["message"]


def test_an_admin_sees_everybodys_videos(door: Door) -> None:
    alice, _ = door.new_key("alice")
    _, admin = door.new_key("operator", Scope.ADMIN)
    door.add_video("hers", alice)
    listed = door.client.get("/v1/videos", headers=admin).json()["data"]
    assert [video["id"] for video in listed] == ["hers"]
    assert door.client.delete("/v1/videos/hers", headers=admin).status_code == 200


def test_a_revoked_key_is_refused_once_it_is_read_again(door: Door) -> None:
    key_id, headers = door.new_key("studio")
    assert door.client.get("/v1/videos", headers=headers).status_code == 200
    door.keys.revoke(key_id)
    assert door.client.get("/v1/videos", headers=headers).status_code == 401


def test_requests_beyond_the_rate_are_put_off(door: Door) -> None:
    _, headers = door.new_key("eager", requests_per_minute=2)
    _, other = door.new_key("calm", requests_per_minute=1000)
    replies = [door.client.get("/v1/videos", headers=headers) for _ in range(4)]
    assert [reply.status_code for reply in replies] == [200, 200, 429, 429]
    remaining = [r.headers["x-ratelimit-remaining-requests"] for r in replies]
    assert remaining == ["1", "0", "0", "0"]
    assert replies[0].headers["x-ratelimit-limit-requests"] == "2"
    assert replies[2].json()["error"]["code"] == "quota_exceeded"
    assert 1 <= int(replies[2].headers["retry-after"]) <= 120
    assert door.client.get("/v1/videos", headers=other).status_code == 200


def test_errors_carry_the_rate_too(door: Door) -> None:
    _, headers = door.new_key("calm", requests_per_minute=1000)
    reply = door.client.get("/v1/videos/none", headers=headers)
    assert reply.status_code == 404
    assert reply.headers["x-ratelimit-remaining-requests"] == "999"
    assert reply.headers["x-ratelimit-reset-requests"].endswith("s")


def test_a_key_that_is_remembered_costs_no_question(tmp_path: Path) -> None:
    auth = AuthSettings(mode=AuthMode.REQUIRED, cache_s=60)
    with open_door(tmp_path, auth=auth) as door:
        key_id, headers = door.new_key("studio")
        assert door.client.get("/v1/videos", headers=headers).status_code == 200
        door.keys.revoke(key_id)
        assert door.client.get("/v1/videos", headers=headers).status_code == 200


def test_without_keys_everybody_is_the_same(tmp_path: Path) -> None:
    with open_door(tmp_path, auth=AuthSettings()) as door:
        for headers in ({}, {"authorization": "Bearer unused"}):
            reply = door.client.get("/v1/videos", headers=headers)
            assert reply.status_code == 200
            assert "x-ratelimit-limit-requests" not in reply.headers
