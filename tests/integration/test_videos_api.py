"""The whole product over HTTP: JSON, multipart, files, control."""

import io
import threading
import time

import av
import httpx
import numpy as np
import pytest
from safetensors.numpy import load

from tests.support.server import PATIENCE_S, Server, body, camera, picture, wait_for, wait_for_step

LUMA = np.array([0.299, 0.587, 0.114])
LONG = 400  # steps: far longer than any test looks at


def frames_of(mp4: bytes) -> list[np.ndarray]:
    with av.open(io.BytesIO(mp4)) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 16
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(stream)]


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_json_with_camera_and_tensors(server: Server) -> None:
    with server.client() as client:
        wanted = body(num_frames=17, camera=camera(11), return_tensors=True)
        created = client.post("/v1/videos", json=wanted).json()
        assert created["num_frames"] == 9
        assert "capped from 17 to 9" in created["notes"][0]
        video = wait_for(client, created["id"])
        assert video["status"] == "completed", video
        stages = {"text_encoder", "image_encoder", "vae_encoder", "denoiser", "vae_decoder"}
        assert set(video["stage_durations"]) == stages
        content = f"/v1/videos/{video['id']}/content"
        tensors = load(client.get(content, params={"variant": "tensors"}).content)
        mp4 = client.get(content).content
    assert tensors["latents"].shape == (16, 3, 8, 12)
    assert tensors["latents"].dtype == np.float32
    assert tensors["frames"].shape == (9, 64, 96, 3)
    assert tensors["frames"].dtype == np.uint8
    # Of brightness: colour is stored at half size, and these frames are noise.
    difference = np.stack(frames_of(mp4)) @ LUMA - tensors["frames"] @ LUMA
    assert np.abs(difference).mean() < 6


def test_seed_and_camera_decide_the_clip(server: Server) -> None:
    with server.client() as client:

        def latents(**fields: object) -> np.ndarray:
            wanted = body(return_tensors=True, **fields)
            video = wait_for(client, client.post("/v1/videos", json=wanted).json()["id"])
            url = f"/v1/videos/{video['id']}/content?variant=tensors"
            return load(client.get(url).content)["latents"]

        first = latents(camera=camera(9))
        np.testing.assert_array_equal(first, latents(camera=camera(9)))
        assert np.abs(first - latents(camera=camera(9), seed=8)).max() > 0.1
        assert np.abs(first - latents()).max() > 1e-4


def test_multipart_with_npy_files(server: Server) -> None:
    path = camera(9)
    files = {
        "input_reference": ("a.jpg", picture(kind="JPEG"), "image/jpeg"),
        "poses": ("poses.npy", npy(np.asarray(path["poses"], np.float32))),
        "intrinsics": ("intrinsics.npy", npy(np.asarray(path["intrinsics"]))),
    }
    with server.client() as client:
        fields = {"prompt": "a house", "num_inference_steps": "2", "sampler": "dpm++"}
        created = client.post("/v1/videos", data=fields, files=files)
        assert created.status_code == 200, created.text
        assert wait_for(client, created.json()["id"])["status"] == "completed"


def test_content_in_ranges_and_before_it_is_ready(server: Server) -> None:
    with server.client() as client:
        video_id = client.post("/v1/videos", json=body()).json()["id"]
        early = client.get(f"/v1/videos/{video_id}/content")
        assert early.status_code == 409
        assert early.json()["error"]["code"] == "video_not_ready"
        wait_for(client, video_id)
        url = f"/v1/videos/{video_id}/content"
        whole = client.get(url).content
        part = client.get(url, headers={"range": "bytes=4-11"})
        assert (part.status_code, part.content) == (206, whole[4:12])
        missing = client.get(url, params={"variant": "tensors"})
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "variant_not_found")


def test_list_pages_through_all_videos(server: Server) -> None:
    with server.client() as client:
        for _ in range(3):
            wait_for(client, client.post("/v1/videos", json=body()).json()["id"])
        newest = client.get("/v1/videos", params={"limit": 2}).json()
        assert newest["has_more"]
        assert newest["first_id"] == newest["data"][0]["id"]
        after = {"limit": 100, "after": newest["last_id"]}
        older = [video["id"] for video in client.get("/v1/videos", params=after).json()["data"]]
        oldest_first = client.get("/v1/videos", params={"limit": 100, "order": "asc"}).json()
        pages = [video["id"] for video in newest["data"]] + older
        assert pages[::-1] == [video["id"] for video in oldest_first["data"]]


def test_sync_answers_with_the_file(server: Server) -> None:
    with server.client() as client:
        answer = client.post("/v1/videos/sync", json=body())
        assert answer.headers["content-type"] == "video/mp4"
        assert len(frames_of(answer.content)) == 9
        video = client.get(f"/v1/videos/{answer.headers['x-video-id']}").json()
        assert video["status"] == "completed"


def test_delete_frees_the_gang_within_a_step(server: Server) -> None:
    with server.client() as client:
        running = client.post("/v1/videos", json=body(num_inference_steps=LONG)).json()["id"]
        wait_for_step(client, running)
        waiting = client.post("/v1/videos", json=body()).json()["id"]
        assert client.delete(f"/v1/videos/{running}").json() == {
            "id": running,
            "object": "video.deleted",
            "deleted": True,
        }
        # The long clip would hold the gang for minutes.
        assert wait_for(client, waiting, timeout_s=20)["status"] == "completed"
        assert client.get(f"/v1/videos/{running}").status_code == 404


def test_a_client_that_leaves_frees_the_gang(server: Server) -> None:
    with server.client() as client:
        with pytest.raises(httpx.ReadTimeout):
            long = body(num_inference_steps=LONG)
            httpx.post(f"{server.url}/v1/videos/sync", json=long, timeout=3)
        after = client.post("/v1/videos", json=body()).json()["id"]
        assert wait_for(client, after, timeout_s=20)["status"] == "completed"
        left = client.get("/v1/videos", params={"limit": 2}).json()["data"][1]
        assert (left["status"], left["error"]["code"]) == ("failed", "cancelled")


def test_progress_never_falls(server: Server) -> None:
    seen = []
    with server.client() as client:
        video = client.post("/v1/videos", json=body(num_inference_steps=30)).json()
        while video["status"] in ("queued", "in_progress"):
            response = client.get(f"/v1/videos/{video['id']}")
            video = response.json()
            seen.append(video["progress"])
            time.sleep(0.02)
    assert seen == sorted(seen)
    assert seen[-1] == 100
    assert len(set(seen)) > 10


def test_a_full_queue_says_so(server: Server) -> None:
    with server.client() as client:
        long = body(num_inference_steps=LONG)
        ids = [client.post("/v1/videos", json=long).json()["id"] for _ in range(4)]
        refused = client.post("/v1/videos", json=long)
        assert refused.status_code == 429
        assert refused.headers["retry-after"]
        assert refused.json()["error"]["code"] == "queue_full"
        for video_id in ids:
            assert client.delete(f"/v1/videos/{video_id}").status_code == 200
        after = client.post("/v1/videos", json=body()).json()["id"]
        assert wait_for(client, after, timeout_s=20)["status"] == "completed"


def test_requests_overlap(server: Server) -> None:
    """While one clip denoises the next is encoded already."""
    with server.client() as client:
        first = client.post("/v1/videos", json=body(num_inference_steps=60)).json()["id"]
        wait_for_step(client, first)
        second = client.post("/v1/videos", json=body(prompt="another prompt")).json()["id"]
        encoded = threading.Event()
        while not encoded.is_set():
            video = client.get(f"/v1/videos/{second}").json()
            if {"text_encoder", "vae_encoder"} <= set(video["stage_durations"]):
                encoded.set()
            time.sleep(0.02)
        assert client.get(f"/v1/videos/{first}").json()["stage"] == "denoiser"
        assert wait_for(client, first)["status"] == "completed"
        assert wait_for(client, second)["status"] == "completed"


def test_probes(server: Server) -> None:
    with server.client() as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "ready")
        assert ready.headers["x-request-id"]


def test_readyz_tells_what_the_gang_chose(server: Server) -> None:
    with server.client() as client:
        deadline = time.monotonic() + PATIENCE_S
        while (facts := client.get("/readyz").json()["denoiser"]) is None:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    chosen = ("attention", "sharding", "compiled", "cfg_parallel", "dtype")
    assert [facts[name] for name in chosen] == ["sdpa", "none", False, False, "float32"]
    assert 0 < facts["load_s"] + facts["warm_up_s"] < facts["start_s"]
