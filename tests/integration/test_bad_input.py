"""Every kind of bad input is refused before a gang sees it, with the field's name."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.server import Server, body, camera, data_url, picture


def bent(num_poses: int) -> dict[str, Any]:
    path = camera(num_poses)
    path["poses"][1][0][0] = 2.0
    return path


def not_finite(num_poses: int) -> dict[str, Any]:
    path = camera(num_poses)
    path["poses"][1][0][3] = 1e400
    return path


def animated() -> bytes:
    file = io.BytesIO()
    first, second = (Image.new("RGB", (64, 64), colour) for colour in ("red", "blue"))
    first.save(file, "WEBP", save_all=True, append_images=[second])
    return file.getvalue()


def gif() -> bytes:
    return picture(kind="GIF")


def image(data: bytes) -> dict[str, str]:
    return {"image_url": data_url(data)}


CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    "frames not 4n+1": ({"num_frames": 10}, "num_frames", "send 9 or 13"),
    "too many frames": ({"num_frames": 85}, "num_frames", "at most 81"),
    "too long": ({"seconds": "60"}, "seconds", "at most 81"),
    "two lengths": ({"seconds": 1, "num_frames": 9}, "num_frames", "not both"),
    "size over the limit": ({"size": "1280x720"}, "size", "at most 7168"),
    "size too small": ({"size": "1x1"}, "size", "too small"),
    "size of no form": ({"size": "big"}, "size", "WxH"),
    "too many steps": ({"num_inference_steps": 1001}, "num_inference_steps", "at most 1000"),
    "no step": ({"num_inference_steps": 0}, "num_inference_steps", "greater than or equal"),
    "another sampler": ({"sampler": "euler"}, "sampler", "unipc"),
    "another rate": ({"fps": 24}, "fps", "16"),
    "another model": ({"model": "sora-2"}, "model", "lingbot"),
    "boundary beyond 1": ({"boundary_ratio": 2}, "boundary_ratio", "less than or equal"),
    "negative seed": ({"seed": -1}, "seed", "greater than or equal"),
    "unknown field": ({"negative_promt": "x"}, "negative_promt", "no field"),
    "no prompt": ({"prompt": None}, "prompt", "required"),
    "empty prompt": ({"prompt": ""}, "prompt", "at least 1 character"),
    "prompt too long": ({"prompt": "house " * 600}, "prompt", "tokens; send at most 512"),
    "huge prompt": ({"prompt": "house " * 30_000}, "prompt", "at most 512 tokens"),
    "negative too long": ({"negative_prompt": "x " * 600}, "negative_prompt", "at most 512"),
    "poses of a wrong shape": (
        {"camera": {**camera(9), "poses": [[[1.0, 2.0]]]}},
        "camera.poses",
        "[N,4,4]",
    ),
    "ragged poses": (
        {"camera": {**camera(9), "poses": [[[1.0], [1.0, 2.0]]]}},
        "camera.poses",
        "unequal",
    ),
    "no pose": ({"camera": {**camera(9), "poses": []}}, "camera.poses", "[N,4,4]"),
    "poses not rigid": ({"camera": bent(9)}, "camera.poses", "pose 1 is not rigid"),
    "too many poses": ({"camera": camera(201)}, "camera.poses", "at most 200"),
    "intrinsics of a wrong shape": (
        {"camera": {**camera(9), "intrinsics": [[500.0, 500.0]]}},
        "camera.intrinsics",
        "[N,4]",
    ),
    "normalised intrinsics": (
        {"camera": {**camera(9), "intrinsics": [[0.5, 0.5, 0.5, 0.5]]}},
        "camera.intrinsics",
        "not normalised",
    ),
    "unknown camera field": ({"camera": {**camera(9), "fov": 60}}, "camera.fov", "no field"),
    "no image": ({"input_reference": None}, "input_reference", "required"),
    "image by URL": (
        {"input_reference": {"image_url": "https://example.com/a.png"}},
        "input_reference.image_url",
        "fetches no URLs",
    ),
    "image by path": (
        {"input_reference": {"image_url": "file:///etc/passwd"}},
        "input_reference.image_url",
        "must be data:image",
    ),
    "no base64": (
        {"input_reference": {"image_url": "data:image/png;base64,§"}},
        "input_reference.image_url",
        "base64",
    ),
    "no image at all": ({"input_reference": image(b"hello")}, "input_reference", "PNG, JPEG, WEBP"),
    "image cut short": (
        {"input_reference": image(picture()[:80])},
        "input_reference",
        "damaged or cut short",
    ),
    "image too large": (
        {"input_reference": image(picture(500, 401))},
        "input_reference",
        "at most 200000 pixels",
    ),
    "animated image": ({"input_reference": image(animated())}, "input_reference", "animated"),
    "foreign image format": ({"input_reference": image(gif())}, "input_reference", "PNG"),
}


@pytest.mark.parametrize("name", CASES)
def test_json_field_is_refused(server: Server, name: str) -> None:
    fields, param, words = CASES[name]
    with server.client() as client:
        answer = client.post("/v1/videos", json=body(**fields))
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param), error
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"


def npy(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


POSES = npy(np.asarray(camera(9)["poses"]))
INTRINSICS = npy(np.asarray(camera(9)["intrinsics"]))
INFINITE = npy(np.asarray(not_finite(9)["poses"]))
OBJECTS = npy(np.array([{"a": 1}], dtype=object), allow_pickle=True)
FILE_CASES: dict[str, tuple[dict[str, bytes], str, str]] = {
    "objects": ({"poses": OBJECTS, "intrinsics": INTRINSICS}, "poses", "real numbers"),
    "no npy": ({"poses": b"hello", "intrinsics": INTRINSICS}, "poses", "no .npy file"),
    "cut short": ({"poses": POSES[:-8], "intrinsics": INTRINSICS}, "poses", "than its header"),
    "too many rows": (
        {"poses": npy(np.zeros((201, 4, 4))), "intrinsics": INTRINSICS},
        "poses",
        "at most 200 rows",
    ),
    "not finite": ({"poses": INFINITE, "intrinsics": INTRINSICS}, "camera.poses", "not finite"),
    "one without the other": ({"poses": POSES}, "intrinsics", "required beside poses"),
    "another file": ({"video": b"x"}, "video", "no file field"),
}


@pytest.mark.parametrize("name", FILE_CASES)
def test_upload_is_refused(server: Server, name: str) -> None:
    uploads, param, words = FILE_CASES[name]
    files = {"input_reference": picture(), **uploads}
    with server.client() as client:
        answer = client.post("/v1/videos", data={"prompt": "a house"}, files=files)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param), error
    assert words in error["message"]


def test_camera_as_text_must_be_json(server: Server) -> None:
    with server.client() as client:
        answer = client.post(
            "/v1/videos",
            data={"prompt": "a house", "camera": "left"},
            files={"input_reference": picture()},
        )
    assert answer.json()["error"]["param"] == "camera"


def test_camera_in_both_forms_is_refused(server: Server) -> None:
    with server.client() as client:
        answer = client.post(
            "/v1/videos",
            data={"prompt": "a house", "camera": '{"poses": [], "intrinsics": []}'},
            files={"input_reference": picture(), "poses": POSES, "intrinsics": INTRINSICS},
        )
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "camera")


def test_body_and_media_type(server: Server) -> None:
    with server.client() as client:
        declared = client.post("/v1/videos", json=body(prompt="x" * 2**20))

        def chunks() -> Any:
            yield from [b" " * 2**16] * 32

        headers = {"content-type": "application/json"}
        streamed = client.post("/v1/videos", content=chunks(), headers=headers)
        text = client.post("/v1/videos", content=b"hello", headers={"content-type": "text/plain"})
        broken = client.post("/v1/videos", content=b"{", headers=headers)
        array = client.post("/v1/videos", json=[1])
    assert [declared.status_code, streamed.status_code] == [413, 413]
    assert text.status_code == 415
    assert (broken.status_code, array.status_code) == (400, 400)


def test_unknown_places(server: Server) -> None:
    with server.client() as client:
        answers = {
            "video": client.get("/v1/videos/video_0"),
            "deleted": client.delete("/v1/videos/video_0"),
            "content": client.get("/v1/videos/video_0/content"),
            "route": client.get("/v1/nothing"),
        }
        limit = client.get("/v1/videos", params={"limit": 0})
        after = client.get("/v1/videos", params={"after": "video_0"})
    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(
        answers, 404
    )
    assert all("code" in answer.json()["error"] for answer in answers.values())
    assert (limit.status_code, limit.json()["error"]["param"]) == (400, "limit")
    assert after.status_code == 404
