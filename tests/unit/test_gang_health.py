"""Verdicts on a gang, who is to blame for a stop, and errors that cross processes."""

import pickle

import pytest

from cluster.config import GangConfig
from cluster.errors import (
    GangError,
    GangStartError,
    GangStoppedError,
    RankDiedError,
    RankFailedError,
    StepTimeoutError,
)
from cluster.health import GRACE_S, GangState, Phase, judge
from cluster.program import RankReport, laggards

CONFIG = GangConfig(
    step_timeout_s=10, first_step_timeout_s=50, start_timeout_s=100, max_heal_attempts=2
)


@pytest.mark.parametrize(
    ("state", "patience_s"),
    [
        (GangState(Phase.RUNNING, 0.0, "job", num_items=0), 50),
        (GangState(Phase.RUNNING, 0.0, "job", num_items=1), 10),
        (GangState(Phase.STARTING, 0.0), 100),
        (GangState(Phase.HEALING, 0.0), 200),
    ],
    ids=["first step", "later step", "start", "heal"],
)
def test_silence_is_healthy_until_its_deadline(state: GangState, patience_s: float) -> None:
    limit_s = patience_s + GRACE_S
    assert judge(state, CONFIG, now_s=limit_s).healthy
    verdict = judge(state, CONFIG, now_s=limit_s + 1)
    assert not verdict.healthy
    assert f"without progress for {limit_s + 1:.1f} s" in verdict.reason


def test_an_idle_gang_may_be_silent_for_ever() -> None:
    assert judge(GangState(Phase.IDLE, 0.0), CONFIG, now_s=1e9).healthy


def test_a_dead_gang_tells_why() -> None:
    verdict = judge(GangState(Phase.DEAD, 0.0, reason="no GPU left"), CONFIG, now_s=0.0)
    assert not verdict.healthy
    assert "no GPU left" in verdict.reason


def test_silent_ranks_are_stuck() -> None:
    assert laggards([RankReport(0, "job", 3), None, None], "job") == [1, 2]


def test_where_all_answer_those_behind_are_stuck() -> None:
    reports: list[RankReport | None] = [RankReport(0, "job", 3), RankReport(1, "job", 2)]
    assert laggards(reports, "job") == [1]
    reports = [RankReport(0, "job", 0), RankReport(1, "the job before", 9)]
    assert laggards(reports, "job") == [1]


def test_where_all_stand_level_nobody_is_to_blame() -> None:
    assert laggards([RankReport(0, "job", 3), RankReport(1, "job", 3)], "job") == []


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (GangStartError({0: "no weights", 1: "not ready"}), "rank 1: not ready"),
        (RankDiedError([1]), "the process of rank 1 died"),
        (RankFailedError(1, "ValueError: bad", "Traceback"), "rank 1 failed: ValueError: bad"),
        (StepTimeoutError([0, 2], 3.25), "for 3.2 s: ranks 0, 2 stuck"),
        (StepTimeoutError([], 3.0), "every rank answers"),
        (GangStoppedError("the gang was stopped"), "the gang was stopped"),
    ],
)
def test_errors_survive_pickling(error: GangError, text: str) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert vars(copy) == vars(error)
    assert text in str(copy)
    assert str(copy) == str(error)
