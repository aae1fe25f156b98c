"""Every error code is explained, and what is explained exists."""

import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from deployments.api.error_body import PROBLEM_MEDIA_TYPE, ErrorBody, Problem
from deployments.api.errors import codes_by_status, install
from deployments.errors import (
    ContentNotReadyError,
    DrainingError,
    JobFailedError,
    JobNotFoundError,
    QueueFullError,
    WaitTooLongError,
)
from deployments.jobs.failures import job_codes
from deployments.jobs.retries import EXPIRED, OUT_OF_MEMORY, POISON_JOB
from model.errors import InvalidInputError
from monitoring.jobs import JOB_FAILURES, JOB_RETRIES, JOBS_REFUSED
from monitoring.metric import Metric

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "errors.md").read_text()
REFUSED, FAILED = PAGE.split("## Refused requests")[1].split("## Failed videos")
ROW = re.compile(r"^\| `([a-z_]+)` \|(?: (\w+) \|)?", re.MULTILINE)
# Where the gateway itself ends jobs.
WRITTEN = re.compile(r"(?:_failure\(|error_code=)\s*\"([a-z_]+)\"")
# What a request for a new video is never refused with once its body is read: these are of the door,
# of the routes that read, of paths that do not exist, or the server's own failures.
NOT_OF_CREATE = {401, 404, 405, 409, 410, 416, 500}


def test_the_page_lists_every_refusal_with_its_status() -> None:
    listed = {code: status for code, status in ROW.findall(REFUSED) if status != "4xx"}
    known = codes_by_status()
    assert listed == {code: str(status) for status, codes in known.items() for code in codes}


def ends_of_jobs() -> set[str]:
    jobs = (ROOT / "deployments" / "jobs").glob("*.py")
    written = {code for path in jobs for code in WRITTEN.findall(path.read_text())}
    assert written >= {"cancelled", "interrupted"}
    return job_codes() | written | {POISON_JOB, OUT_OF_MEMORY, EXPIRED}


def test_the_page_lists_every_end_of_a_job() -> None:
    assert {code for code, _ in ROW.findall(FAILED)} == ends_of_jobs()


@pytest.mark.parametrize("metric", [JOB_FAILURES, JOB_RETRIES], ids=lambda metric: metric.name)
def test_every_end_of_a_job_has_a_series(metric: Metric) -> None:
    assert set(metric.labels[0].values) == ends_of_jobs()


def test_every_refusal_of_a_new_video_has_a_series() -> None:
    known = codes_by_status().items()
    refused = {code for status, codes in known if status not in NOT_OF_CREATE for code in codes}
    assert set(JOBS_REFUSED.labels[0].values) == refused - {"too_many_streams"}


ERRORS: dict[str, tuple[Exception, int, str]] = {
    "field": (InvalidInputError("size", "is too small"), 400, "invalid_value"),
    "missing": (JobNotFoundError("no video"), 404, "video_not_found"),
    "full": (QueueFullError("too many"), 429, "queue_full"),
    "wait": (WaitTooLongError("too long", retry_after_s=7.2), 429, "queue_wait_too_long"),
    "stopping": (DrainingError("about to stop"), 503, "draining"),
    "early": (ContentNotReadyError("is queued"), 409, "video_not_ready"),
    "failed": (JobFailedError("rank_died", "rank 1 died"), 500, "rank_died"),
    "unknown": (KeyError("secret"), 500, "internal_error"),
}


@pytest.fixture(scope="module")
def client() -> TestClient:
    api = FastAPI()
    install(api)

    @api.get("/{name}")
    async def fail(name: str) -> None:
        raise ERRORS[name][0]

    return TestClient(api, raise_server_exceptions=False)


@pytest.mark.parametrize("name", ERRORS)
def test_both_shapes_say_the_same(client: TestClient, name: str) -> None:
    error, status, code = ERRORS[name]
    usual = client.get(f"/{name}")
    detail = ErrorBody.model_validate(usual.json()).error
    accept = {"accept": f"text/html;q=0.1, {PROBLEM_MEDIA_TYPE}", "x-request-id": "r-1"}
    asked = client.get(f"/{name}", headers=accept)
    problem = Problem.model_validate(asked.json())
    assert usual.status_code == asked.status_code == problem.status == status
    assert asked.headers["content-type"] == PROBLEM_MEDIA_TYPE
    assert detail.code == problem.code == code
    assert problem.type.endswith(f":{code}")
    assert (problem.detail, problem.param) == (detail.message, detail.param)
    assert problem.request_id == "r-1"
    assert detail.param == ("size" if isinstance(error, InvalidInputError) else None)
    assert "secret" not in usual.text + asked.text


def test_a_problem_may_be_declined(client: TestClient) -> None:
    answer = client.get("/full", headers={"accept": f"{PROBLEM_MEDIA_TYPE};q=0, */*"})
    assert "error" in answer.json()


def test_a_refusal_says_when_to_come_back(client: TestClient) -> None:
    for name in ("full", "stopping"):
        headers = client.get(f"/{name}").headers
        assert int(headers["retry-after-ms"]) == 1000 * int(headers["retry-after"]) > 0
    wait = client.get("/wait").headers
    assert (wait["retry-after"], wait["retry-after-ms"]) == ("8", "7200")
    assert "retry-after" not in client.get("/missing").headers


def test_the_stock_client_is_told_not_to_repeat_in_vain(client: TestClient) -> None:
    told = {name: client.get(f"/{name}").headers.get("x-should-retry") for name in ERRORS}
    assert {name for name, value in told.items() if value == "false"} == {"early", "failed"}


def test_types_follow_the_status(client: TestClient) -> None:
    types = {name: client.get(f"/{name}").json()["error"]["type"] for name in ERRORS}
    assert types["full"] == "rate_limit_error"
    assert types["field"] == types["missing"] == "invalid_request_error"
    assert types["unknown"] == types["stopping"] == "server_error"


def test_routes_that_do_not_exist_answer_alike(client: TestClient) -> None:
    missing, wrong = client.get("/a/b"), client.post("/full")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "GET"
