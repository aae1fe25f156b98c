"""The states in which a job is struck: how to bring one there, and how to know."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any
from uuid import uuid4

import httpx
from sqlalchemy import Engine

from benchmarks.chaos.jobs import read_job
from benchmarks.chaos.service import Service
from benchmarks.chaos.storing import HELD_PROMPT, ends_held, is_held
from deployments.jobs.tables import IN_PROGRESS, QUEUED, Job
from deployments.messages import Stage
from tests.support.server import body

_REACH_TIMEOUT_S = 60.0
# With so many frames encoding and decoding take about a second of a core, denoising hardly any.
_MANY_FRAMES = 41
_LONG_STEPS, _SHORT_STEPS = 120, 3
_ENCODERS = (Stage.TEXT_ENCODER, Stage.IMAGE_ENCODER, Stage.VAE_ENCODER)


class State(str, Enum):
    """Where the struck job stands."""

    QUEUED = "queued"
    ENCODING = "encoding"
    DENOISING = "denoising"
    DECODING = "decoding"
    STORING = "storing"


class StateMissedError(Exception):
    """The job went through the state unseen."""


@dataclass(frozen=True)
class Scene:
    """The jobs of one cell.

    Args:
        victim: The job that is in the state.
        bystanders: Everybody else's.
        release: Lets go of what holds the victim; to be called after the strike.
    """

    victim: str
    bystanders: list[str]
    release: Callable[[], None]


@contextmanager
def scene(service: Service, state: State) -> Iterator[Scene]:
    """Brings a job into a state, beside others.

    Raises:
        StateMissedError: It was too quick, or never came there.
    """
    with service.client() as client, ExitStack() as holds:
        if state is State.STORING:
            holds.enter_context(ends_held(service.engine))
        # Two run at once, so that a third waits.
        num_before = 2 if state is State.QUEUED else 0
        before = [create(client, num_inference_steps=_LONG_STEPS) for _ in range(num_before)]
        victim = create(client, **_victim(state))
        short = create(client, num_inference_steps=_SHORT_STEPS)
        _reach(service.engine, victim, state)
        yield Scene(victim, [*before, short], holds.close)


def create(client: httpx.Client, **fields: Any) -> str:
    """Sends a job that is like no other, and returns its id."""
    wanted = body(**{"prompt": f"chaos {uuid4().hex}", **fields})
    return str(client.post("/v1/videos", json=wanted).raise_for_status().json()["id"])


def _victim(state: State) -> dict[str, Any]:
    if state in (State.ENCODING, State.DECODING):
        return {"num_frames": _MANY_FRAMES, "num_inference_steps": _SHORT_STEPS}
    if state is State.DENOISING:
        return {"num_inference_steps": _LONG_STEPS}
    prompt = HELD_PROMPT if state is State.STORING else "chaos"
    return {"num_inference_steps": _SHORT_STEPS, "prompt": f"{prompt} {uuid4().hex}"}


def _reach(engine: Engine, job_id: str, state: State) -> None:
    deadline_s = time.monotonic() + _REACH_TIMEOUT_S
    while not stands(engine, job := read_job(engine, job_id), state):
        if job.is_over or time.monotonic() > deadline_s:
            raise StateMissedError(f"{job_id} is {job.status} at {job.stage}, not {state.value}")


def stands(engine: Engine, job: Job, state: State) -> bool:
    """Whether a job is in a state by its row, or, where it is held there, by its locks."""
    runs = job.status == IN_PROGRESS
    if state is State.QUEUED:
        return job.status == QUEUED
    if state is State.ENCODING:
        return runs and job.stage in _ENCODERS and Stage.VAE_ENCODER not in job.stage_durations
    if state is State.DENOISING:
        return runs and job.stage == Stage.DENOISER and (job.step or 0) > 1
    if state is State.DECODING:
        return (
            runs and job.stage == Stage.VAE_DECODER and Stage.VAE_DECODER not in job.stage_durations
        )
    return is_held(engine)
