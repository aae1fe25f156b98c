"""One request, sent a thousand times at once under one Idempotency-Key: how many jobs come of it?

    python -m benchmarks.storm

Two gateways over one PostgreSQL, real sockets. Some senders hang up as soon as their request is out
or in the midst of it, and send it again, as a client behind a bad line does; refusals and broken
connections are retried, too.
"""

import argparse
import asyncio
import json
import os
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from benchmarks.chaos.environment import RAY_ENVIRONMENT
from benchmarks.chaos.service import NUM_GATEWAYS, running_service
from benchmarks.report import median_and_p95_ms, write_report
from deployments.jobs.tables import Job
from tests.support.server import body

NUM_POSTS, NUM_AT_ONCE = 1000, 100
# Of the senders, those that hang up after the whole request, and after half of it.
HANG_UP, HANG_UP_EARLY = 0.15, 0.15
_MAX_TRIES = 50
_TIMEOUT_S = 60.0


@dataclass
class Storm:
    """What the senders met.

    Args:
        ids: The videos that they were told of, and how often.
        statuses: Of all answers.
        num_hung_up: Requests whose sender did not wait for the answer.
        num_broken: Requests that the server did not answer.
        latencies_s: Of all answers.
    """

    ids: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    num_hung_up: int = 0
    num_broken: int = 0
    latencies_s: list[float] = field(default_factory=list)


async def send_storm(url: str, *, num_posts: int, num_at_once: int, seed: int = 0) -> Storm:
    """Sends one request many times, each until it is answered with a video.

    Args:
        url: Of the gateways.
        num_posts: Senders.
        num_at_once: Of them, those that send at one time.
        seed: Of who hangs up.
    """
    storm, chance = Storm(), random.Random(seed)
    turns = asyncio.Semaphore(num_at_once)
    headers = {"content-type": "application/json", "idempotency-key": uuid4().hex}
    content = json.dumps(body(num_inference_steps=3, prompt=f"storm {uuid4().hex}")).encode()
    limits = httpx.Limits(max_connections=num_at_once)
    async with httpx.AsyncClient(
        base_url=url, headers=headers, timeout=_TIMEOUT_S, limits=limits
    ) as client:

        async def one() -> None:
            async with turns:
                draw = chance.random()
                if draw < HANG_UP + HANG_UP_EARLY:
                    await _hang_up(url, headers, content, early=draw < HANG_UP_EARLY)
                    storm.num_hung_up += 1
                await _insist(client, content, storm)

        await asyncio.gather(*(one() for _ in range(num_posts)))
    return storm


async def _insist(client: httpx.AsyncClient, content: bytes, storm: Storm) -> None:
    for _ in range(_MAX_TRIES):
        start_s = time.monotonic()
        try:
            answer = await client.post("/v1/videos", content=content)
        except httpx.TransportError:
            storm.num_broken += 1
            await asyncio.sleep(0.2)
            continue
        storm.statuses[answer.status_code] += 1
        storm.latencies_s.append(time.monotonic() - start_s)
        if answer.status_code == 200:
            storm.ids[answer.json()["id"]] += 1
            return
        await asyncio.sleep(float(answer.headers.get("retry-after", 1)))
    raise TimeoutError(f"no video after {_MAX_TRIES} tries: {dict(storm.statuses)}")


async def _hang_up(url: str, headers: dict[str, str], content: bytes, *, early: bool) -> None:
    """Sends the request on a connection of its own and closes that without reading."""
    place = urlsplit(url)
    _, writer = await asyncio.open_connection(place.hostname, place.port)
    lines = [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"host: {place.netloc}", f"content-length: {len(content)}", "", ""]
    head = "\r\n".join(["POST /v1/videos HTTP/1.1", *lines]).encode()
    writer.write(head + (content[: len(content) // 2] if early else content))
    await writer.drain()
    writer.close()


def num_jobs(engine: Engine, prefix: str = "storm ") -> int:
    """Jobs that the storm has made."""
    with Session(engine) as session:
        found = select(func.count()).where(Job.prompt.startswith(prefix))
        return session.scalar(found) or 0


def main() -> None:
    """Runs the benchmark and writes `docs/benchmarks/storm.json`."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--posts", type=int, default=NUM_POSTS)
    num_posts = parser.parse_args().posts
    os.environ.update(RAY_ENVIRONMENT)
    with (
        tempfile.TemporaryDirectory(prefix="storm-") as name,
        running_service(Path(name)) as service,
    ):
        start_s = time.monotonic()
        sent = send_storm(service.url, num_posts=num_posts, num_at_once=NUM_AT_ONCE)
        storm = asyncio.run(sent)
        seconds = time.monotonic() - start_s
        time.sleep(2)  # what was hung up on may still be written
        made = num_jobs(service.engine)
    write_report(
        "storm",
        {
            "gateways": NUM_GATEWAYS,
            "posts": num_posts,
            "at_once": NUM_AT_ONCE,
            "hung_up": storm.num_hung_up,
            "unanswered": storm.num_broken,
            "answers": {str(status): number for status, number in storm.statuses.items()},
            "videos_named": len(storm.ids),
            "jobs_made": made,
            "seconds": round(seconds, 1),
            "latency": median_and_p95_ms(storm.latencies_s),
        },
    )
    assert made == len(storm.ids) == 1, f"{made} jobs, {len(storm.ids)} ids"


if __name__ == "__main__":
    main()
