"""What a gang's settings accept, and what they say when they refuse."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from cluster.config import GangConfig


def test_one_sequence_is_shared_by_the_whole_gang_by_default() -> None:
    assert GangConfig(size=4).ulysses_degree == 4
    assert GangConfig.model_validate({"size": 4, "ulysses_degree": None}).ulysses_degree == 4
    assert GangConfig(size=4, ulysses_degree=2).ulysses_degree == 2
    assert GangConfig(size=4, cfg_parallel=True).ulysses_degree == 2


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"size": 6, "ulysses_degree": 4}, r"take one of \[1, 2, 3, 6\]"),
        ({"size": 3, "cfg_parallel": True}, "must be even"),
        ({"size": 8, "cfg_parallel": True, "ulysses_degree": 8}, r"half of size 8: take one of"),
        ({"size": 0}, "greater than 0"),
        ({"sise": 2}, "Extra inputs"),
        ({"device": "tpu"}, "'cpu' or 'cuda'"),
        ({"step_timeout_s": 10.0, "first_step_timeout_s": 5.0}, "must not be below"),
        ({"collective_timeout_s": 300.0, "first_step_timeout_s": 300.0}, "must exceed"),
        ({"step_timeout_s": 0.0}, "greater than 0"),
    ],
)
def test_refuses_what_cannot_work(settings: dict[str, object], remedy: str) -> None:
    with pytest.raises(ValidationError, match=remedy):
        GangConfig.model_validate(settings)


def test_is_frozen() -> None:
    with pytest.raises(ValidationError):
        GangConfig(size=2).size = 4  # type: ignore[misc]


def test_an_owner_of_a_gang_needs_no_torch() -> None:
    script = "import sys, cluster.gang, cluster.denoise_program; print('torch' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"
