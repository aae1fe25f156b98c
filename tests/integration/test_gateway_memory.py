"""What Python keeps of looks, listings and refused creates in a gateway: nothing."""

import gc
import statistics
import tracemalloc
from pathlib import Path

from starlette.testclient import TestClient

from deployments.gateway_config import Limits
from deployments.jobs.tables import Job
from deployments.keys.settings import AuthSettings
from tests.support.door import open_door
from tests.support.server import body

NUM_WAITING = 4
NUM_REQUESTS, NUM_ROUNDS = 150, 8
# Pools and registers grow by steps now and then, and every second round has some 10 kB more than
# the next; what is kept for each request grows from one to the next but one, every time.
MOST_BYTES_PER_REQUEST = 60


def test_requests_leave_nothing_behind(tmp_path: Path) -> None:
    limits = Limits(max_queued_jobs=NUM_WAITING)
    with open_door(tmp_path, auth=AuthSettings(), limits=limits) as door:
        for number in range(NUM_WAITING):
            door.jobs.add(_waiting(f"video_{number}"))
        held = _held_bytes(door.client)
    grown = statistics.median(after - before for before, after in zip(held, held[2:], strict=False))
    assert grown / (2 * NUM_REQUESTS) < MOST_BYTES_PER_REQUEST, held


def _waiting(name: str) -> Job:
    size = {"width": 96, "height": 64, "num_frames": 17, "num_inference_steps": 3}
    return Job(id=name, model="m", prompt="p", seed="1", **size)


def _held_bytes(client: TestClient) -> list[int]:
    """What Python holds after each round of requests, of what it took since before the first."""
    _send(client)  # caches fill
    tracemalloc.start()
    try:
        return [_held_after_a_round(client) for _ in range(NUM_ROUNDS)]
    finally:
        tracemalloc.stop()


def _held_after_a_round(client: TestClient) -> int:
    _send(client)
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def _send(client: TestClient) -> None:
    for number in range(NUM_REQUESTS // 3):
        created = client.post("/v1/videos", json=body(prompt=f"prompt {number}"))
        assert created.status_code == 429
        assert client.get("/v1/videos").status_code == 200
        assert client.get("/v1/videos/video_3").status_code == 200
