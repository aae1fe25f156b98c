"""The client's pure parts: when to try again, camera paths, and what a terminal shows."""

import io
import re
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from lingbot_serve.camera import dolly, orbit, pan
from lingbot_serve.client.retries import RetryPolicy, retry_after_s
from lingbot_serve.client.video import Video
from lingbot_serve.progress import StageLines, progress_view
from model.geometry import check_camera
from model.nano.paths import FASTEST_TURN_DEG_PER_S, WALKING_M_PER_S
from model.types import FPS, CameraPath
from tests.support.scripted_server import video

POLICY = RetryPolicy()
BROKEN = httpx.ReadError("broken", request=httpx.Request("GET", "http://host"))


@given(attempt=st.integers(0, 40), jitter=st.floats(0, 1))
def test_waits_double_up_to_a_limit(attempt: int, jitter: float) -> None:
    delay_s = POLICY.backoff_s(attempt, jitter=jitter)
    whole_s = min(0.5 * 2**attempt, 8.0)
    assert whole_s / 2 <= delay_s <= whole_s


@given(asked_s=st.floats(0, 60), jitter=st.floats(0, 1))
def test_nobody_comes_back_before_the_server_asked(asked_s: float, jitter: float) -> None:
    reply = httpx.Response(429, headers={"retry-after-ms": repr(asked_s * 1000)})
    delay_s = POLICY.delay_s(0, reply, jitter=jitter)
    assert delay_s is not None
    assert asked_s * 0.999 <= delay_s <= asked_s * 1.26


def test_the_last_attempt_has_no_successor() -> None:
    assert POLICY.delay_s(POLICY.max_retries, BROKEN, jitter=0) is None
    assert POLICY.patient.delay_s(POLICY.max_retries, BROKEN, jitter=0) is not None
    assert POLICY.delay_s(0, httpx.UnsupportedProtocol("ftp"), jitter=0) is None


@pytest.mark.parametrize(("wish", "status"), [("false", 500), ("true", 409)])
def test_the_server_knows_best_whether_to_try_again(wish: str, status: int) -> None:
    reply = httpx.Response(status, headers={"x-should-retry": wish})
    assert (POLICY.delay_s(0, reply, jitter=0) is not None) == (wish == "true")


def test_patience_outlasts_a_restart() -> None:
    policy = POLICY.patient
    waits = [policy.backoff_s(i, jitter=0.5) for i in range(policy.max_retries)]
    assert 60 < sum(waits) < 180


@pytest.mark.parametrize(
    ("headers", "expected_s"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "soon"}, None),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
    ],
)
def test_what_servers_ask_for(headers: dict[str, str], expected_s: float | None) -> None:
    assert retry_after_s(httpx.Headers(headers)) == expected_s


def test_servers_may_name_a_date() -> None:
    then = datetime.now(timezone.utc) + timedelta(hours=1)
    asked_s = retry_after_s({"retry-after": format_datetime(then, usegmt=True)})
    assert asked_s is not None
    assert 3500 < asked_s <= 3600


@pytest.mark.parametrize("path", [dolly(9), pan(9), orbit(9)], ids=["dolly", "pan", "orbit"])
def test_presets_are_paths_that_the_model_takes(path: CameraPath) -> None:
    check_camera(path)
    assert (path.poses.shape, path.intrinsics.shape) == ((9, 4, 4), (9, 4))
    np.testing.assert_array_equal(path.poses[0], np.eye(4))


def test_dolly_moves_forward_and_pan_turns_right() -> None:
    np.testing.assert_allclose(dolly(5, distance=2).poses[-1, :3, 3], [0, 0, 2])
    ahead = pan(5, degrees=90).poses[-1, :3, :3] @ [0, 0, 1]
    np.testing.assert_allclose(ahead, [1, 0, 0], atol=1e-12)


@pytest.mark.parametrize("num_frames", [9, 33, 81])
def test_presets_are_as_fast_as_nano_was_trained_on(num_frames: int) -> None:
    rates = [rates_of(preset(num_frames)) for preset in (dolly, pan, orbit)]
    walking_m_per_s, turning_deg_per_s = zip(*rates, strict=True)
    np.testing.assert_allclose(walking_m_per_s, [WALKING_M_PER_S, 0, WALKING_M_PER_S], atol=0.02)
    np.testing.assert_allclose(
        turning_deg_per_s, [0, FASTEST_TURN_DEG_PER_S, FASTEST_TURN_DEG_PER_S], atol=1e-6
    )


def rates_of(path: CameraPath) -> tuple[float, float]:
    """The fastest step in metres and the widest turn in degrees, each per second."""
    steps = np.linalg.norm(np.diff(path.poses[:, :3, 3], axis=0), axis=1)
    ahead = path.poses[:, :3, 2]
    turns = np.degrees(np.arccos((ahead[:-1] * ahead[1:]).sum(1).clip(-1, 1)))
    return float(steps.max() * FPS), float(turns.max() * FPS)


@given(degrees=st.floats(-360, 360), radius=st.floats(0.1, 100))
def test_orbit_keeps_the_point_ahead_in_sight(degrees: float, radius: float) -> None:
    poses = orbit(9, degrees=degrees, radius=radius).poses
    ahead = poses[:, :3, 3] + radius * poses[:, :3, 2]
    np.testing.assert_allclose(ahead, np.tile([0, 0, radius], (9, 1)), atol=1e-9 * radius)


def test_lines_say_each_thing_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = StageLines(Console(highlight=False))
    queued = [video(queue_position=2, eta_seconds=eta) for eta in (60.0, 59.0)]
    step = {"stage": "denoiser", "step": 1, "total_steps": 8}
    running = video(status="in_progress", **step)
    done = video(status="completed", stage_durations={"denoiser": 2.5})
    for item in (*queued, running, running, done, done):
        lines.show(Video.model_validate(item))
    assert capsys.readouterr().out.splitlines() == [
        "queued: place 2, about 1 min 0 s left",
        "denoiser: step 1 of 8",
        "denoiser: finished in 2.50 s",
    ]


def test_bars_show_each_stage_with_its_steps_and_seconds() -> None:
    terminal = Console(force_terminal=True, width=100, no_color=True, file=io.StringIO())
    queued = video(queue_position=1)
    running = video(status="in_progress", stage="denoiser", step=1, total_steps=8)
    done = video(status="completed", stage="vae_decoder", step=4, total_steps=5)
    with progress_view(terminal) as view:
        view.show(Video.model_validate(queued))
        view.show(Video.model_validate(running | {"stage_durations": {"text_encoder": 0.25}}))
        durations = {"text_encoder": 0.25, "denoiser": 2.5, "vae_decoder": 1.0}
        view.show(Video.model_validate(done | {"stage_durations": durations}))
    assert isinstance(terminal.file, io.StringIO)
    last = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.file.getvalue()).splitlines()[-3:]
    assert [line.split()[0] for line in last] == ["text_encoder", "denoiser", "vae_decoder"]
    assert [line.split()[-3:] for line in last] == [
        ["1/1", "0.25", "s"],
        ["8/8", "2.50", "s"],
        ["5/5", "1.00", "s"],
    ]
