"""Two hundred clients poll and download beside running jobs for 15 minutes: what goes wrong?

    python -m benchmarks.soak

Each client behaves as the stock one does: it creates a video, polls at the pace that the answer
asks for, downloads, and starts again. Told to come back later (429 with `retry-after`), it does,
and meanwhile looks at what others made. Every answer but a success and an announced 429 is an
error, so is every broken connection and every short download. The gateway's memory is read all the
while; its slope is fitted to everything after the first fifth of the time, and to the last half.
"""

import argparse
import asyncio
import os
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import psutil

from benchmarks.chaos.environment import RAY_ENVIRONMENT
from benchmarks.chaos.processes import replicas
from benchmarks.report import median_and_p95_ms, write_report
from deployments.config import ServeConfig
from deployments.launch import start_local
from deployments.listeners import free_port
from deployments.names import GATEWAY
from model.checkpoint.synthetic import TINY, write_synthetic_checkpoint
from tests.support.server import body, small_config

NUM_CLIENTS, MINUTES, MAX_QUEUED = 200, 15.0, 40
_POLL_AFTER = "openai-poll-after-ms"
_DEFAULT_POLL_S = 1.0  # of the stock client, where the server asks for none
_SAMPLE_S = 5.0
_WARM_SHARE = 0.2
_REPORT_S = 30.0


@dataclass
class Tally:
    """What the clients met."""

    answers: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    latencies_s: dict[str, list[float]] = field(default_factory=dict)
    num_completed: int = 0
    bytes_downloaded: int = 0
    memory_mib: list[tuple[float, float]] = field(default_factory=list)

    def note(self, what: str, answer: httpx.Response, seconds: float) -> None:
        """Counts one answer."""
        self.answers[f"{what} {answer.status_code}"] += 1
        self.latencies_s.setdefault(what, []).append(seconds)
        announced = answer.status_code == 429 and "retry-after" in answer.headers
        if not (answer.is_success or announced):
            self.errors[f"{what} {answer.status_code}: {answer.text[:120]}"] += 1


class SoakClient:
    """One client with a connection of its own.

    Args:
        url: Of the gateway.
        tally: Shared by all.
        until_s: When to stop, on the monotonic clock.
    """

    def __init__(self, url: str, tally: Tally, until_s: float) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=60)
        self._tally = tally
        self._until_s = until_s

    async def run(self) -> None:
        """Creates, polls, downloads, until the time is over."""
        await asyncio.sleep(random.uniform(0, 5))  # people do not come all at once
        async with self._http:
            while time.monotonic() < self._until_s:
                await self._one_video()

    async def _one_video(self) -> None:
        wanted = body(prompt=f"soak {uuid4().hex}", num_inference_steps=3)
        answer = await self._send("create", "POST", "/v1/videos", json=wanted)
        if answer is None or not answer.is_success:
            await self._look_around()
            wait_s = _DEFAULT_POLL_S if answer is None else answer.headers.get("retry-after", 1)
            await self._sleep(float(wait_s))
            return
        video = answer.json()
        while video["status"] in ("queued", "in_progress") and time.monotonic() < self._until_s:
            await self._sleep(_pace_s(answer))
            polled = await self._send("poll", "GET", f"/v1/videos/{video['id']}")
            if polled is None or not polled.is_success:
                return
            answer, video = polled, polled.json()
        await self._finish(video)

    async def _finish(self, video: dict[str, Any]) -> None:
        if video["status"] == "failed":
            self._tally.errors[f"job failed: {video['error']}"] += 1
        elif video["status"] == "completed":
            self._tally.num_completed += 1
            await self._download(video["id"])
            await self._send("delete", "DELETE", f"/v1/videos/{video['id']}")

    async def _look_around(self) -> None:
        """What somebody who waits does: looks through the list, and at one of the videos."""
        listed = await self._send("list", "GET", "/v1/videos", params={"limit": 20})
        if listed is not None and listed.is_success and (videos := listed.json()["data"]):
            chosen = random.choice(videos)["id"]
            await self._send("look", "GET", f"/v1/videos/{chosen}", gone_is_fine=True)

    async def _download(self, video_id: str) -> None:
        answer = await self._send("download", "GET", f"/v1/videos/{video_id}/content")
        if answer is not None and answer.is_success:
            self._tally.bytes_downloaded += len(answer.content)
            if len(answer.content) != int(answer.headers["content-length"]):
                self._tally.errors["short download"] += 1

    async def _send(
        self, what: str, method: str, path: str, *, gone_is_fine: bool = False, **options: Any
    ) -> httpx.Response | None:
        start_s = time.monotonic()
        try:
            answer = await self._http.request(method, path, follow_redirects=True, **options)
        except httpx.TransportError as error:
            self._tally.errors[f"{what} {type(error).__name__}"] += 1
            await asyncio.sleep(_DEFAULT_POLL_S)
            return None
        if gone_is_fine and answer.status_code == 404:  # its owner deleted it since
            self._tally.answers[f"{what} 404"] += 1
        else:
            self._tally.note(what, answer, time.monotonic() - start_s)
        return answer

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, min(seconds, self._until_s - time.monotonic())))


def _pace_s(answer: httpx.Response) -> float:
    asked = answer.headers.get(_POLL_AFTER, "")
    return int(asked) / 1000 if asked.isdigit() else _DEFAULT_POLL_S


async def soak(url: str, pid: int, *, num_clients: int, minutes: float) -> Tally:
    """Lets all clients work, and reads the gateway's memory meanwhile.

    Args:
        url: Of the gateway.
        pid: Of the gateway.
        num_clients: At once.
        minutes: How long.
    """
    tally, start_s = Tally(), time.monotonic()
    until_s = start_s + 60 * minutes
    watch = asyncio.create_task(_watch(pid, tally, start_s))
    clients = [SoakClient(url, tally, until_s).run() for _ in range(num_clients)]
    try:
        # Nobody hangs: a client's last request has a timeout of its own.
        await asyncio.wait_for(asyncio.gather(*clients), 60 * minutes + 120)
    finally:
        watch.cancel()
    return tally


async def _watch(pid: int, tally: Tally, start_s: float) -> None:
    gateway, reported_s = psutil.Process(pid), start_s
    while True:
        now_s = time.monotonic()
        tally.memory_mib.append((now_s - start_s, gateway.memory_info().rss / 2**20))
        if now_s - reported_s >= _REPORT_S:
            reported_s = now_s
            print(
                f"{now_s - start_s:.0f} s: {tally.answers.total()} answers, "
                f"{tally.num_completed} clips, {tally.errors.total()} errors, "
                f"{tally.memory_mib[-1][1]:.1f} MiB",
                flush=True,
            )
        await asyncio.sleep(_SAMPLE_S)


def memory_report(samples: list[tuple[float, float]]) -> dict[str, Any]:
    """The gateway's memory minute by minute, and its slopes after warming up and at the end."""
    times_s, sizes = np.array(samples).T

    def slope(share: float) -> float:
        late = times_s >= share * times_s[-1]
        return round(float(np.polyfit(times_s[late] / 60, sizes[late], 1)[0]), 3)

    minutes = (times_s // 60).astype(int)
    return {
        "start_mib": round(float(sizes[0]), 1),
        "peak_mib": round(float(sizes.max()), 1),
        "each_minute_mib": [
            round(float(np.median(sizes[minutes == minute])), 1) for minute in np.unique(minutes)
        ],
        "slope_mib_per_minute": slope(_WARM_SHARE),
        "last_half_slope_mib_per_minute": slope(0.5),
    }


def settings(folder: Path) -> ServeConfig:
    """The small service with a queue that two hundred clients fill."""
    write_synthetic_checkpoint(folder / "checkpoint", seed=0, size=TINY)
    raw = small_config(
        folder / "checkpoint", folder / "data", port=free_port(), gang_size=2
    ).model_dump(exclude_unset=True)
    raw["gateway"]["limits"]["max_queued_jobs"] = MAX_QUEUED
    # The small service's is for tests of slow bodies; here a busy machine is slow, not the client.
    del raw["gateway"]["limits"]["body_timeout_s"]
    return ServeConfig.model_validate(raw)


def main() -> None:
    """Runs the benchmark and writes `docs/benchmarks/soak.json`."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, default=NUM_CLIENTS)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    options = parser.parse_args()
    os.environ.update(RAY_ENVIRONMENT)
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as name,
        start_local(settings(Path(name))) as server,
    ):
        [gateway] = replicas(GATEWAY)
        clients, minutes = options.clients, options.minutes
        tally = asyncio.run(soak(server.url, gateway.pid, num_clients=clients, minutes=minutes))
    write_report(
        "soak",
        {
            "clients": options.clients,
            "minutes": options.minutes,
            "answers": dict(tally.answers.most_common()),
            "answers_per_s": round(tally.answers.total() / (60 * options.minutes), 1),
            "errors": dict(tally.errors.most_common()),
            "clips_completed": tally.num_completed,
            "mib_downloaded": round(tally.bytes_downloaded / 2**20, 1),
            "latency": {what: median_and_p95_ms(s) for what, s in tally.latencies_s.items()},
            "gateway_memory": memory_report(tally.memory_mib),
        },
    )


if __name__ == "__main__":
    main()
