"""The web page, in a real browser, against the real service and the shipped checkpoint."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from model.nano.paths import FASTEST_TURN_DEG_PER_S, WALKING_M_PER_S
from model.types import FPS
from tests.support.command_line import EXAMPLES, ServeProcess
from tests.support.server import picture

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
SLOW_MS = 90_000
# A frame that was drawn is not one colour.
SPREAD_OF_FRAME = """video => {
  const canvas = Object.assign(document.createElement("canvas"), {width: 32, height: 32});
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0, 32, 32);
  const values = Array.from(context.getImageData(0, 0, 32, 32).data).filter((_, i) => i % 4 < 3);
  return Math.max(...values) - Math.min(...values);
}"""

PRESET_POSES = """async ([name, amount]) => {
  const {matrix, presetPath} = await import("/page/camera.js");
  return presetPath(name, amount, 33).map(matrix);
}"""

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")


@pytest.fixture(scope="module")
def page(server: ServeProcess) -> Iterator[Page]:
    """The page; what its scripts complain of fails the test."""
    faults: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(server.url)
        yield page
        browser.close()
    assert faults == []


def submitted(page: Page, button: str = "Make the video") -> dict[str, Any]:
    """Presses a button and returns the request's body, once the page shows what came of it."""
    with page.expect_response(lambda response: response.request.method == "POST") as answered:
        page.get_by_role("button", name=button).click()
    if answered.value.ok:
        expect(page.locator("#job-title")).to_contain_text(answered.value.json()["id"])
    body: dict[str, Any] = answered.value.request.post_data_json
    return body


def fastest(poses: np.ndarray) -> tuple[float, float, float]:
    """Metres walked, degrees turned and degrees tilted per second, where a path is fastest."""
    walked = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    turned = np.diff(np.degrees(np.arctan2(poses[:, 0, 2], poses[:, 2, 2])))
    tilted = np.diff(np.degrees(np.arcsin(-poses[:, 1, 2])))
    walking, turning, tilting = (abs(each).max() * FPS for each in (walked, turned, tilted))
    return float(walking), float(turning), float(tilting)


def test_one_button_makes_the_example_and_shows_its_frames(page: Page) -> None:
    body = submitted(page, "Try the example")
    assert body["prompt"] == (EXAMPLES / "prompt.txt").read_text().strip()
    assert np.allclose(body["camera"]["poses"], np.load(EXAMPLES / "camera/poses.npy"), atol=1e-5)
    assert "num_inference_steps" not in body
    status = page.locator("#job-status")
    expect(status).to_contain_text("denoiser, step", timeout=SLOW_MS)
    expect(page.locator("#stages .now")).to_have_text("denoiser")
    video = page.locator("#video")
    expect(video).to_be_visible(timeout=SLOW_MS)
    page.wait_for_function("() => document.getElementById('video').readyState >= 2")
    assert video.evaluate(SPREAD_OF_FRAME) > 40
    assert video.evaluate("video => video.duration") == pytest.approx(33 / 16, abs=0.07)
    expect(page.get_by_role("link", name="Download")).to_be_visible()
    expect(page.locator("#recent li").first).to_contain_text(f"completed: {body['prompt'][:20]}")


def test_what_it_shows_for_a_shell_is_what_it_sent(page: Page, tmp_path: Path) -> None:
    page.get_by_text("The same from a shell or from Python").click()
    assert "-d @request.json" in page.locator("#curl").inner_text()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save request.json").click()
    saved.value.save_as(tmp_path / "request.json")
    assert '"num_frames":33' in (tmp_path / "request.json").read_text()
    compile(page.locator("#python").inner_text(), "page", "exec")


def test_a_steered_path_is_sent_as_poses(page: Page, tmp_path: Path) -> None:
    (tmp_path / "first.png").write_bytes(picture())
    page.get_by_label("First frame").set_input_files(tmp_path / "first.png")
    page.get_by_label("Prompt").fill("a house by the sea")
    page.get_by_label("Frames").fill("9")
    page.get_by_label("Steps").fill("1")
    page.locator("#wireframe").focus()
    page.keyboard.press("Enter")
    for key in ("w", "d", "ArrowRight"):
        page.keyboard.down(key)
    expect(page.get_by_label("Path", exact=True)).to_have_value(
        "steered", timeout=10_000
    )  # its time is over
    for key in ("w", "d", "ArrowRight"):
        page.keyboard.up(key)
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save poses").click()
    saved.value.save_as(tmp_path / "poses.npy")
    body = submitted(page)
    poses = np.array(body["camera"]["poses"])
    assert body["prompt"] == "a house by the sea"
    assert np.allclose(np.load(tmp_path / "poses.npy"), poses)
    assert poses.shape == (9, 4, 4)
    assert (np.diff(poses[:, 2, 3]) > 0).all()  # ahead
    assert poses[-1, 0, 3] > 0.1  # and to the right
    assert poses[-1, 0, 2] > 0.04  # and turning to the right
    told = (WALKING_M_PER_S, FASTEST_TURN_DEG_PER_S, 0)
    assert fastest(poses) == pytest.approx(told, abs=0.1)
    expect(page.locator("#video")).to_be_visible(timeout=SLOW_MS)


@pytest.mark.parametrize("preset", ["walk", "orbit", "dolly", "pan", "rise", "still"])
@pytest.mark.parametrize("amount", [-1, -0.6, 0, 0.6, 1])
def test_presets_go_as_fast_as_was_trained(page: Page, preset: str, amount: float) -> None:
    poses = np.array(page.evaluate(PRESET_POSES, [preset, amount]))
    walking, turning, tilting = fastest(poses)
    assert walking == pytest.approx(0 if preset in ("pan", "still") else WALKING_M_PER_S, abs=1e-6)
    assert turning <= FASTEST_TURN_DEG_PER_S + 1e-6
    assert tilting == 0


def test_a_failed_video_says_why(page: Page) -> None:
    page.get_by_label("Steps").fill("100")
    page.get_by_label("Frames").fill("33")
    submitted(page)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#job-error")).to_contain_text("cancelled", timeout=SLOW_MS)
    page.get_by_label("Frames").fill("9")


def test_a_refused_request_names_its_field(page: Page) -> None:
    page.get_by_label("Size").fill("4000x4000")
    submitted(page)
    expect(page.locator("#form-error")).to_contain_text("size: asks for 16000000 pixels")
    page.get_by_label("Size").fill("")


def test_everything_is_reached_by_keyboard_and_fits_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    labels = page.evaluate(
        "[...document.querySelectorAll('input, select, textarea')]"
        ".filter(field => !field.labels.length).map(field => field.id)"
    )
    assert labels == []
    reached = set()
    page.locator("#example").focus()
    for _ in range(20):
        reached.add(page.evaluate("document.activeElement.id"))
        page.keyboard.press("Tab")
    assert {"example", "image", "prompt", "preset", "wireframe", "steer", "submit"} <= reached
