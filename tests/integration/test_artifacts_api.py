"""Files and records over the real service."""

import hashlib
import io

import numpy as np
from PIL import Image
from safetensors.numpy import load

from tests.support.server import Server, body, camera, wait_for


def test_a_video_is_made_again_from_its_record(server: Server) -> None:
    inputs = {"camera": camera(9), "input_reference": body()["input_reference"]}
    with server.client() as client:

        def make(**fields: object) -> dict:
            created = client.post("/v1/videos", json={**fields, **inputs, "return_tensors": True})
            assert created.status_code == 200, created.text
            return wait_for(client, created.json()["id"])

        # Its seed is drawn, everything else the preset's.
        first = make(prompt="a house by the sea", size="112x64")
        record = first["record"]
        second = make(**record["request"])
        urls = [f"/v1/videos/{video['id']}/content?variant=tensors" for video in (first, second)]
        tensors = [load(client.get(url).content) for url in urls]
    assert record["checkpoint"]["covers"] == "edges"
    assert record["denoiser"]["ranks"] == 2
    assert second["record"] == record
    # CPU kernels round by where their arguments happen to lie.
    np.testing.assert_allclose(tensors[1]["latents"], tensors[0]["latents"], atol=1e-4)
    assert np.abs(tensors[1]["frames"].astype(int) - tensors[0]["frames"]).max() <= 1


def test_files_and_their_variants(server: Server) -> None:
    with server.client() as client:
        video_id = client.post("/v1/videos", json=body(return_tensors=True)).json()["id"]
        video = wait_for(client, video_id)
        url = f"/v1/videos/{video_id}/content"
        files = {name: client.get(url, params={"variant": name}) for name in video["artifacts"]}
        head = client.head(url)
        parts = client.get(url, headers={"range": "bytes=0-3,8-11"})
        unchanged = client.get(url, headers={"if-none-match": head.headers["etag"]})
        behind = client.get(url, headers={"range": "bytes=999999999-"})
    assert set(files) == {"video", "thumbnail", "last_frame", "tensors"}
    for name, file in files.items():
        said = video["artifacts"][name]
        assert hashlib.sha256(file.content).hexdigest() == said["sha256"]
        assert (len(file.content), file.headers["content-type"]) == (
            said["bytes"],
            said["media_type"],
        )
    assert video["artifacts"]["video"]["seconds"] == 9 / 16
    frames = load(files["tensors"].content)["frames"]
    last = np.asarray(Image.open(io.BytesIO(files["last_frame"].content)))
    np.testing.assert_array_equal(last, frames[-1])
    assert head.headers["content-length"] == str(len(files["video"].content))
    assert (head.content, head.headers["etag"]) == (b"", files["video"].headers["etag"])
    assert (parts.status_code, unchanged.status_code, behind.status_code) == (206, 304, 416)
    assert parts.headers["content-type"].startswith("multipart/byteranges")
