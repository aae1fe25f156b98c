"""Which failure ends a job with which code and public message; nothing else decides one."""

import asyncio
from dataclasses import dataclass

from ray.exceptions import RayActorError, TaskCancelledError

from cluster.errors import GangError
from deployments.calls import root_cause
from deployments.errors import (
    ArtifactMissingError,
    ArtifactStoreError,
    PipelineUnavailableError,
    StageError,
)
from model.errors import DenoiseCancelled, InvalidInputError

# First match wins, so a kind stands before its base.
_CODES: tuple[tuple[type[BaseException], str], ...] = (
    # Not the client's doing, whose cancellation takes the job from its owner.
    (DenoiseCancelled, "interrupted"),
    (TaskCancelledError, "interrupted"),
    (asyncio.CancelledError, "cancelled"),
    (InvalidInputError, "invalid_value"),
    (PipelineUnavailableError, "pipeline_unavailable"),
    (ArtifactMissingError, "inputs_lost"),
    (ArtifactStoreError, "artifact_store_unavailable"),
    (RayActorError, "stage_died"),
)


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed, as clients may read it."""

    code: str
    message: str


def job_error(error: BaseException) -> JobError:
    """The public face of whatever ended a job; unknown errors show nothing of themselves."""
    cause = root_cause(error)
    if isinstance(cause, (GangError, StageError)):
        return JobError(cause.code, _first_line(cause))
    for kind, code in _CODES:
        if isinstance(cause, kind):
            return JobError(code, _first_line(cause) or code)
    return JobError("internal_error", f"the job failed with {type(cause).__name__}; see the log")


def job_codes() -> set[str]:
    """Every code with which the stages may end a job; gateways have a few of their own."""
    kinds: list[type[GangError] | type[StageError]] = [GangError, StageError]
    for kind in kinds:  # grows while it is walked
        kinds += kind.__subclasses__()
    return {code for _, code in _CODES} | {kind.code for kind in kinds} | {"internal_error"}


def _first_line(error: BaseException) -> str:
    """A message without the tracebacks of ranks that follow it."""
    return str(error).partition("\n")[0]
