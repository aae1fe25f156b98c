"""What requests leave behind in a gateway's memory: nothing."""

import asyncio
import gc
import itertools
import tracemalloc
from pathlib import Path

import httpx

from deployments.api.routes import build_api
from deployments.api.service import VideoService
from deployments.gateway_config import GatewayConfig
from deployments.jobs.database import open_database
from deployments.jobs.store import JobStore
from deployments.jobs.tables import Job
from tests.support.server import body

NUM_WAITING = 4
NUM_CLIENTS = 8
NUM_REQUESTS, NUM_ROUNDS = 200, 4
# Pools and registers grow by steps, now and then; what is kept for each request grows every time.
MOST_BYTES_PER_REQUEST = 40


def test_requests_leave_nothing_behind(tmp_path: Path) -> None:
    config = GatewayConfig.model_validate(
        {"data_dir": tmp_path, "limits": {"max_queued_jobs": NUM_WAITING}}
    )
    service = VideoService(config)
    _fill(JobStore(open_database(config.store_url())))
    try:
        grown = asyncio.run(_grown_bytes(service))
    finally:
        service.close()
    assert min(grown) / NUM_REQUESTS < MOST_BYTES_PER_REQUEST, grown


def _fill(jobs: JobStore) -> None:
    size = {"width": 96, "height": 64, "num_frames": 17, "num_inference_steps": 3}
    for number in range(NUM_WAITING):
        jobs.add(Job(id=f"video_{number}", model="m", prompt="p", seed="1", **size))


async def _grown_bytes(service: VideoService) -> list[int]:
    """By how much each round of requests grew what Python holds."""
    transport = httpx.ASGITransport(build_api(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        await _send(client, NUM_REQUESTS)  # caches fill
        tracemalloc.start()
        try:
            held = [await _held_after(client) for _ in range(1 + NUM_ROUNDS)]
        finally:
            tracemalloc.stop()
    return [after - before for before, after in itertools.pairwise(held)]


async def _held_after(client: httpx.AsyncClient) -> int:
    await _send(client, NUM_REQUESTS)
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


async def _send(client: httpx.AsyncClient, number: int) -> None:
    """Looks, lists and refused creates in turn, from several clients at once."""
    numbers = itertools.count()

    async def send() -> None:
        while (index := next(numbers)) < number:
            if index % 3 == 0:
                answer = await client.post("/v1/videos", json=body(prompt=f"prompt {index}"))
                assert answer.status_code == 429
            else:
                path = "/v1/videos" if index % 3 == 1 else "/v1/videos/video_3"
                assert (await client.get(path)).status_code == 200

    await asyncio.gather(*(send() for _ in range(NUM_CLIENTS)))
