"""Cancels, one after another: how soon does the gang begin with the next clip?"""

import json
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from http.client import HTTPConnection
from pathlib import Path

import httpx

from tests.support.server import body, wait_for_step

CLIP = {"num_frames": 49, "size": "112x64"}
LONG = {**CLIP, "num_inference_steps": 500}
_BEGUN = "gang_job_started"


@dataclass(frozen=True)
class Running:
    """A clip, and the way to cancel it.

    Args:
        video_id: The clip.
        cancel: Returns at once.
    """

    video_id: str
    cancel: Callable[[], None]


@dataclass(frozen=True)
class Cancel:
    """One cancel of the chain.

    Args:
        next_id: The clip that waited.
        at: When, on the wall clock, as the log has it too.
        first_step_s: Seconds until the next clip's first step was finished.
    """

    next_id: str
    at: datetime
    first_step_s: float


def by_delete(client: httpx.Client) -> Running:
    """A clip that is deleted."""
    video_id = client.post("/v1/videos", json=body(**LONG)).json()["id"]
    return Running(video_id, lambda: _delete(client, video_id))


def by_disconnect(client: httpx.Client) -> Running:
    """A clip whose client waits for it on one connection, and hangs up."""
    seen = _ids(client)
    caller = HTTPConnection(client.base_url.host, client.base_url.port)
    headers = {"Content-Type": "application/json"}
    caller.request("POST", "/v1/videos/sync", json.dumps(body(**LONG)), headers)
    while not (fresh := _ids(client) - seen):
        time.sleep(0.05)
    return Running(fresh.pop(), caller.close)


CANCELS = {"delete": by_delete, "client_disconnect": by_disconnect}


def cancel_chain(
    client: httpx.Client,
    start: Callable[[httpx.Client], Running],
    number: int,
    *,
    max_pause_s: float,
) -> list[Cancel]:
    """Cancels clip after clip, each with the next one waiting encoded behind it.

    Args:
        client: Of the service.
        start: Sends a clip.
        number: Of cancels.
        max_pause_s: Cancels come at any moment of so long a time.
    """
    running, cancels = start(client), []
    wait_for_step(client, running.video_id)
    for _ in range(number):
        following = start(client)
        wait_encoded(client, following.video_id)
        time.sleep(random.uniform(0, max_pause_s))
        at, start_s = datetime.now(timezone.utc), time.monotonic()
        running.cancel()
        wait_for_step(client, following.video_id)
        cancels.append(Cancel(following.video_id, at, time.monotonic() - start_s))
        running = following
    running.cancel()
    return cancels


def wait_encoded(client: httpx.Client, video_id: str) -> None:
    """Returns when only the gang keeps a clip waiting."""
    while client.get(f"/v1/videos/{video_id}").json()["stage"] != "denoiser":
        time.sleep(0.05)


def cancel_report(cancels: list[Cancel], logs_dir: Path, *, bound_s: float) -> dict[str, object]:
    """How soon the gang began with the next clip, and finished its first step.

    Args:
        cancels: A chain.
        logs_dir: Where the gang has noted when it began.
        bound_s: Within which it has to begin.
    """
    begun = _begun(logs_dir)
    begun_s = [(begun[cancel.next_id] - cancel.at).total_seconds() for cancel in cancels]
    return {
        "cancels": len(cancels),
        "bound_s": round(bound_s, 2),
        "within_bound": round(sum(s <= bound_s for s in begun_s) / len(begun_s), 3),
        "next_clip_begun": _quantiles(begun_s),
        "next_clip_first_step": _quantiles([cancel.first_step_s for cancel in cancels]),
    }


def _quantiles(seconds: list[float]) -> dict[str, float]:
    return {
        "median_s": round(statistics.median(seconds), 2),
        "p99_s": round(statistics.quantiles(seconds, n=100, method="inclusive")[-1], 2),
        "worst_s": round(max(seconds), 2),
    }


def _begun(logs_dir: Path) -> dict[str, datetime]:
    """When the gang began with each clip, by its id."""
    found = {}
    for path in logs_dir.glob("worker-*.err"):
        for line in path.read_text(errors="replace").splitlines():
            if _BEGUN in line:
                event = json.loads(line)
                found[event["job_id"]] = datetime.fromisoformat(
                    event["timestamp"].replace("Z", "+00:00")
                )
    return found


def _ids(client: httpx.Client) -> set[str]:
    return {video["id"] for video in client.get("/v1/videos").json()["data"]}


def _delete(client: httpx.Client, video_id: str) -> None:
    client.delete(f"/v1/videos/{video_id}").raise_for_status()
