"""After which failure a job is tried again, how often, how soon, and what it fails with. Pure.

| failure | tried again | a strike |
|---|---|---|
| the caller's: a wrong value | never | |
| a gang lost its ranks, or died, under the job | until `max_strikes`, then `poison_job` | yes |
| memory ran out, and a clip as large was made here before | once | yes |
| memory ran out, and none was | never | |
| a stage died, hung or was replaced | until `max_failures` | |
| the pipeline is not there, or the files cannot be read | always, until the job expires | |
| the files cannot be written | once the latents are kept, as often as a stage's death | |
| anything else | once | |
"""

from dataclasses import dataclass

from pydantic import Field

from deployments.settings import Settings

POISON_JOB, OUT_OF_MEMORY, EXPIRED = "poison_job", "out_of_memory", "expired"
STORE_UNAVAILABLE = "artifact_store_unavailable"

_NEVER = frozenset({"invalid_value", "inputs_lost"})
_STRIKES = frozenset({"rank_died", "rank_failed", "step_timeout", "gang_died"})
_STAGE = frozenset(
    {
        "stage_died",
        "stage_timeout",
        "gang_stopped",
        "gang_start_failed",
        "gang_failed",
        "interrupted",
    }
)
_UNCOUNTED = frozenset({"pipeline_unavailable"})


class RetrySettings(Settings):
    """How persistent the service is.

    Args:
        max_failures: Attempts at one job that may fail before it does.
        max_strikes: Gangs that may die under one job before it is a poison job.
        backoff_s: Wait before the second attempt; doubled with each further one.
        max_backoff_s: Longest wait between two attempts.
        max_queue_s: A job that waits and is older than this fails as expired.
        store_patience_s: How long a finished video is held while its file cannot be written.
    """

    max_failures: int = Field(default=4, ge=1)
    max_strikes: int = Field(default=2, ge=1)
    backoff_s: float = Field(default=1.0, gt=0)
    max_backoff_s: float = Field(default=60.0, gt=0)
    max_queue_s: float = Field(default=24 * 3600.0, gt=0)
    store_patience_s: float = Field(default=3600.0, gt=0)

    def delay_s(self, failed: int, jitter: float) -> float:
        """Wait after so many failures: exponential, and somewhere in its upper half.

        Args:
            failed: At least 1.
            jitter: 0 to 1, at random, so that jobs that failed together do not return together.
        """
        doublings = min(failed - 1, 32)
        return float(min(self.max_backoff_s, self.backoff_s * 2**doublings) * (0.5 + jitter / 2))


@dataclass(frozen=True, slots=True)
class Standing:
    """A job at the moment of its failure.

    Args:
        attempt: Counts its claims.
        failures: Those that counted before this one.
        strikes: Gangs that died under it before.
        denoised: Whether this attempt had final latents in its hands.
        latents_kept: Whether they are stored.
        size_has_run: Whether a clip at least as large was made here before.
    """

    attempt: int
    failures: int = 0
    strikes: int = 0
    denoised: bool = False
    latents_kept: bool = False
    size_has_run: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """The job waits again.

    Args:
        delay_s: At least so long.
        counted: Whether the failure uses up one of `max_failures`.
        struck: Whether a gang died under it.
    """

    delay_s: float
    counted: bool = True
    struck: bool = False


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The job fails.

    Args:
        code: For programs.
        message: For people: what happened and what to do.
    """

    code: str
    message: str


def decide(
    code: str, message: str, standing: Standing, settings: RetrySettings, *, jitter: float
) -> Retry | GiveUp:
    """What becomes of a job that has failed.

    Args:
        code: Of the failure.
        message: Of the failure, fit for clients.
        standing: The job.
        settings: How persistent to be.
        jitter: 0 to 1, at random.
    """
    delay_s = settings.delay_s(standing.attempt, jitter)
    if code in _NEVER:
        return GiveUp(code, message)
    if code == OUT_OF_MEMORY:
        return _out_of_memory(message, standing, delay_s)
    if code in _STRIKES:
        return _strike(message, standing, settings, delay_s)
    if code in _UNCOUNTED:
        return Retry(delay_s, counted=False)
    if code == STORE_UNAVAILABLE and not standing.denoised:
        return Retry(delay_s, counted=False)
    if code == STORE_UNAVAILABLE and not standing.latents_kept:
        return GiveUp(code, f"{message}; it is not denoised twice: send it again")
    most = settings.max_failures if code in _STAGE or code == STORE_UNAVAILABLE else 2
    if standing.failures + 1 >= min(most, settings.max_failures):
        return GiveUp(code, message)
    return Retry(delay_s)


def _strike(
    message: str, standing: Standing, settings: RetrySettings, delay_s: float
) -> Retry | GiveUp:
    if standing.strikes + 1 < settings.max_strikes:
        return Retry(delay_s, counted=False, struck=True)
    return GiveUp(
        POISON_JOB,
        f"{standing.strikes + 1} gangs died under this video, the last one because {message}; "
        "it is not tried again: change the request, or tell the operator",
    )


def _out_of_memory(message: str, standing: Standing, delay_s: float) -> Retry | GiveUp:
    if not standing.size_has_run:
        return GiveUp(
            OUT_OF_MEMORY,
            f"{message}: no clip as large was made here before, so this one is too large for the "
            "hardware; ask for a smaller size or fewer frames",
        )
    if standing.strikes == 0:
        return Retry(delay_s, counted=False, struck=True)
    return GiveUp(
        OUT_OF_MEMORY,
        f"{message}, again, although clips as large were made here before: something else uses "
        "the memory; send it again later, or tell the operator",
    )
