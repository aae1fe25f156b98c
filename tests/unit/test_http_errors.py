"""What clients and jobs are told about errors."""

import asyncio

import pytest
from ray.exceptions import RayTaskError

from cluster.errors import (
    GangStoppedError,
    RankDiedError,
    RankFailedError,
    RankOutOfMemoryError,
    StepTimeoutError,
)
from deployments.calls import root_cause
from deployments.errors import StageDiedError, StageTimeoutError
from deployments.jobs.failures import job_error
from model.errors import DenoiseCancelled, InvalidInputError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RankDiedError([1]), "rank_died"),
        (StepTimeoutError([0], 9.0), "step_timeout"),
        (RankFailedError(1, "CUDA out of memory", "Traceback: secrets"), "rank_failed"),
        (GangStoppedError("given up"), "gang_stopped"),
        (DenoiseCancelled("a"), "interrupted"),
        (asyncio.CancelledError(), "cancelled"),
        (InvalidInputError("size", "too small"), "invalid_value"),
        (RankOutOfMemoryError(1, "CUDA out of memory", "Traceback: secrets"), "out_of_memory"),
        (StageDiedError("vae_decoder", "was lost (ActorDiedError)"), "stage_died"),
        (StageTimeoutError("vae_decoder", "did not answer within 9 s"), "stage_timeout"),
        (KeyError("x"), "internal_error"),
    ],
)
def test_codes_of_failed_jobs(error: BaseException, code: str) -> None:
    public = job_error(error)
    assert public.code == code
    assert public.message
    assert "secrets" not in public.message


def test_errors_of_ours_keep_their_secrets() -> None:
    assert "/etc/key" not in job_error(OSError("cannot open /etc/key")).message


def test_the_cause_is_found_under_ray() -> None:
    cause = RankDiedError([1])
    inner = RayTaskError("denoise", "traceback", cause)
    outer = RayTaskError("generate", "traceback", inner).as_instanceof_cause()
    assert root_cause(outer) is cause
