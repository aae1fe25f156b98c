"""Which failure is tried again, how often and how soon."""

import pytest

from deployments.jobs.retries import GiveUp, Retry, RetrySettings, Standing, decide

SETTINGS = RetrySettings(max_failures=3, backoff_s=2.0, max_backoff_s=10.0)
FIRST = Standing(attempt=1)


def verdict(code: str, standing: Standing = FIRST, *, jitter: float = 1.0) -> Retry | GiveUp:
    return decide(code, "why", standing, SETTINGS, jitter=jitter)


@pytest.mark.parametrize("code", ["stage_died", "stage_timeout", "gang_stopped", "interrupted"])
def test_a_lost_stage_is_tried_again_until_it_failed_too_often(code: str) -> None:
    assert verdict(code) == Retry(2.0)
    assert verdict(code, Standing(attempt=2, failures=1)) == Retry(4.0)
    assert verdict(code, Standing(attempt=3, failures=2)) == GiveUp(code, "why")


def test_the_caller_s_faults_are_final() -> None:
    assert verdict("invalid_value") == GiveUp("invalid_value", "why")


def test_an_unknown_fault_is_tried_once_more() -> None:
    assert isinstance(verdict("internal_error"), Retry)
    again = verdict("internal_error", Standing(attempt=2, failures=1))
    assert again == GiveUp("internal_error", "why")


def test_a_pipeline_that_is_not_there_costs_no_attempt() -> None:
    assert verdict("pipeline_unavailable", Standing(attempt=40, failures=2)) == Retry(
        10.0, counted=False
    )


@pytest.mark.parametrize("code", ["rank_died", "rank_failed", "step_timeout", "gang_died"])
def test_the_second_gang_that_dies_makes_it_a_poison_job(code: str) -> None:
    assert verdict(code) == Retry(2.0, counted=False, struck=True)
    end = verdict(code, Standing(attempt=2, strikes=1))
    assert isinstance(end, GiveUp)
    assert (end.code, "2 gangs died" in end.message, "why" in end.message) == (
        "poison_job",
        True,
        True,
    )


def test_memory_that_never_sufficed_is_the_job_s_fault() -> None:
    end = verdict("out_of_memory")
    assert isinstance(end, GiveUp)
    assert end.code == "out_of_memory"
    assert "ask for a smaller size or fewer frames" in end.message


def test_memory_that_sufficed_before_is_the_gang_s_fault_and_tried_once_more() -> None:
    ran = Standing(attempt=1, size_has_run=True)
    assert verdict("out_of_memory", ran) == Retry(2.0, counted=False, struck=True)
    again = verdict("out_of_memory", Standing(attempt=2, strikes=1, size_has_run=True))
    assert isinstance(again, GiveUp)
    assert "tell the operator" in again.message


def test_files_that_cannot_be_written_never_cost_a_second_denoise() -> None:
    code = "artifact_store_unavailable"
    assert verdict(code) == Retry(2.0, counted=False)
    assert verdict(code, Standing(attempt=1, denoised=True, latents_kept=True)) == Retry(2.0)
    lost = verdict(code, Standing(attempt=1, denoised=True))
    assert isinstance(lost, GiveUp)
    assert lost.code == code


def test_waits_grow_to_a_limit_and_differ_between_jobs() -> None:
    waits = [SETTINGS.delay_s(failed, 1.0) for failed in range(1, 6)]
    assert waits == [2.0, 4.0, 8.0, 10.0, 10.0]
    assert SETTINGS.delay_s(1, 0.0) == 1.0
    assert SETTINGS.delay_s(10_000, 0.5) == 7.5
