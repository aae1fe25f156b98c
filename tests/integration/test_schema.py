"""schemathesis against the server: whatever the document allows, much that it does not, and walks.

The document cannot say all that a body must be, such as 4n+1 frames or a real image, so whether a
request is refused is held by other tests; here, how: no 5xx, and nothing but what is announced.
"""

import os
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode, Response, checks

from tests.support.server import Server, body

# For each operation, and twice as many walks; more are for a machine that is not in a hurry.
NUM_EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "5"))
NUM_STEPS = 8
TIMEOUT_S = 60
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
    checks.unsupported_method,
]
BOUNDED = settings(
    max_examples=NUM_EXAMPLES,
    stateful_step_count=NUM_STEPS,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"
OPERATIONS = {
    found.ok().label: found.ok()
    for found in schemathesis.openapi.from_path(DOCUMENT).get_all_operations()
}
# Where something can be wrong: no string is a wrong id.
WITH_CHOICES = ("GET /v1/videos", "POST /v1/videos", "POST /v1/videos/sync")
MODES = [(name, GenerationMode.POSITIVE) for name in OPERATIONS]
MODES += [(name, GenerationMode.NEGATIVE) for name in WITH_CHOICES]


@pytest.mark.parametrize(("name", "mode"), MODES)
def test_operation(server: Server, name: str, mode: GenerationMode) -> None:
    @BOUNDED
    @given(OPERATIONS[name].as_strategy(generation_mode=mode))
    def answers_as_announced(case: Case) -> None:
        case.call_and_validate(base_url=server.url, checks=CHECKS, timeout=TIMEOUT_S)

    answers_as_announced()


def test_walks_from_create_to_delete(server: Server) -> None:
    """The links of the document lead from a new video to all that can be done with it."""
    seen: set[tuple[str, int]] = set()
    made: list[str] = []
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")

    class Walk(schema.as_state_machine()):  # type: ignore[misc]
        def before_call(self, case: Case) -> None:
            if _name(case) in ("create_video", "create_video_and_wait"):
                case.media_type = "application/json"
                case.body = body(num_frames=5, num_inference_steps=2)

        def get_call_kwargs(self, case: Case) -> dict[str, Any]:
            return {"timeout": TIMEOUT_S}

        def after_call(self, response: Response, case: Case) -> None:
            super().after_call(response, case)
            seen.add((_name(case), response.status_code))
            if _name(case) == "create_video" and response.status_code == 200:
                made.append(response.json()["id"])

        def validate_response(self, response: Response, case: Case, **_: Any) -> None:
            case.validate_response(response, checks=CHECKS)

    try:
        Walk.run(settings=settings(BOUNDED, max_examples=2 * NUM_EXAMPLES))
    finally:
        with server.client() as client:
            for video_id in made:
                client.delete(f"/v1/videos/{video_id}")
    reached = {name for name, status in seen if status == 200}
    assert {"create_video", "retrieve_video", "cancel_video", "delete_video"} <= reached, seen


def _name(case: Case) -> str:
    name: str = case.operation.definition.raw["operationId"]
    return name
