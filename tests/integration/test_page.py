"""The web page, in a real browser, against the real service."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.support.server import Server, picture

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

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")


@pytest.fixture(scope="module")
def page(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page with a first frame chosen; what its scripts complain of fails the test."""
    image = tmp_path_factory.mktemp("page") / "first.png"
    image.write_bytes(picture())
    faults: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(server.url)
        page.get_by_label("First frame").set_input_files(image)
        page.get_by_label("Prompt").fill("a house by the sea")
        page.get_by_label("Frames").fill("9")
        yield page
        browser.close()
    assert faults == []


def submitted(page: Page) -> dict[str, Any]:
    """Sends the form and returns the request's body, once the page shows what came of it."""
    with page.expect_response(lambda response: response.request.method == "POST") as answered:
        page.get_by_role("button", name="Make the video").click()
    if answered.value.ok:
        expect(page.locator("#job-title")).to_contain_text(answered.value.json()["id"])
    body: dict[str, Any] = answered.value.request.post_data_json
    return body


def test_a_video_from_the_form_to_its_frames(page: Page) -> None:
    page.get_by_label("Path", exact=True).select_option("orbit")
    page.get_by_label("Steps").fill("60")
    body = submitted(page)
    assert np.array(body["camera"]["poses"]).shape == (9, 4, 4)
    status = page.locator("#job-status")
    expect(status).to_contain_text("denoiser, step", timeout=SLOW_MS)
    expect(page.locator("#stages .now")).to_have_text("denoiser")
    video = page.locator("#video")
    expect(video).to_be_visible(timeout=SLOW_MS)
    page.wait_for_function("() => document.getElementById('video').readyState >= 2")
    assert video.evaluate(SPREAD_OF_FRAME) > 40
    assert video.evaluate("video => video.duration") == pytest.approx(9 / 16, abs=0.07)
    expect(page.get_by_role("link", name="Download")).to_be_visible()
    expect(page.locator("#recent li").first).to_contain_text("completed: a house by the sea")


def test_what_it_shows_for_a_shell_is_what_it_sent(page: Page, tmp_path: Path) -> None:
    page.get_by_text("The same from a shell or from Python").click()
    assert "-d @request.json" in page.locator("#curl").inner_text()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save request.json").click()
    saved.value.save_as(tmp_path / "request.json")
    assert '"num_inference_steps":60' in (tmp_path / "request.json").read_text()
    compile(page.locator("#python").inner_text(), "page", "exec")


def test_a_steered_path_is_sent_as_poses(page: Page, tmp_path: Path) -> None:
    page.get_by_label("Steps").fill("1")
    page.locator("#wireframe").focus()
    page.keyboard.press("Enter")
    page.keyboard.down("w")
    page.keyboard.down("ArrowRight")
    expect(page.get_by_label("Path", exact=True)).to_have_value(
        "steered", timeout=10_000
    )  # its time is over
    page.keyboard.up("w")
    page.keyboard.up("ArrowRight")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save poses").click()
    saved.value.save_as(tmp_path / "poses.npy")
    poses = np.array(submitted(page)["camera"]["poses"])
    assert np.allclose(np.load(tmp_path / "poses.npy"), poses)
    assert poses.shape == (9, 4, 4)
    assert (np.diff(poses[:, 2, 3]) > 0).all()  # ahead
    assert poses[-1, 0, 2] > 0.1  # and to the right
    expect(page.locator("#video")).to_be_visible(timeout=SLOW_MS)


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
    page.locator("#image").focus()
    for _ in range(20):
        reached.add(page.evaluate("document.activeElement.id"))
        page.keyboard.press("Tab")
    assert {"image", "prompt", "preset", "wireframe", "steer", "submit"} <= reached
