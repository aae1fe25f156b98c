"""Whatever strangers send to the real API, in one process: it is refused, and nothing breaks.

`make fuzz` tries many more examples than a run of the tests does.
"""

import io
import json
import os
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from deployments.api.routes import build_api
from deployments.api.service import VideoService
from deployments.artifacts.objects import Objects
from deployments.artifacts.store import ArtifactStore
from deployments.gateway_config import GatewayConfig
from deployments.jobs.database import open_database
from deployments.jobs.store import JobStore
from deployments.jobs.tables import COMPLETED, Job
from deployments.messages import VideoResult
from tests.support.server import body, camera, picture

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "40"))
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
PICTURE = picture()
PROMPT = "a house by the sea " * 20
DONE = "video_" + "0" * 32


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The API with one finished video, and nobody who makes others."""
    config = GatewayConfig.model_validate(
        {
            "data_dir": tmp_path_factory.mktemp("data"),
            "preset": "cpu-small",
            # A request that is sound ends at its prompt, before the text encoder is asked.
            "limits": {
                "max_body_bytes": 2**18,
                "max_image_pixels": 10_000,
                "max_prompt_tokens": len(PROMPT) // 100 - 1,
            },
        }
    )
    artifacts = ArtifactStore(Objects(config.artifacts_url))
    files = artifacts.write_result(DONE, 1, VideoResult(bytes(5000), None, None))
    engine = open_database(config.store_url())
    shape = {"width": 96, "height": 64, "num_frames": 9, "seed": "1", "num_inference_steps": 3}
    status = {"status": COMPLETED, "completed_at": time.time(), "attempts": 1}
    JobStore(engine).add(Job(id=DONE, model="m", prompt="p", **shape, **status, **files))
    engine.dispose()
    service = VideoService(config)
    with TestClient(
        build_api(service), raise_server_exceptions=False, follow_redirects=False
    ) as client:
        yield client
    service.close()


def check(answer: httpx.Response) -> None:
    """Fine, or refused with a code and in few words."""
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.json()["error"]["code"], answer.text
        assert len(answer.content) < 4000


def npy_of(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


NPY = npy_of(np.asarray(camera(9)["poses"]))
INTRINSICS = npy_of(np.asarray(camera(9)["intrinsics"]))
HEADERS = st.sampled_from(["'descr'", "'shape'", "'fortran_order'", ":", ",", "(", ")", "{", "}"])
WORDS = st.lists(
    HEADERS | st.sampled_from(["'<f8'", "9", "4", "-", "True", "1e9", "'"]) | st.text()
)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file with some bytes changed, and perhaps an end that is missing or too much."""
    content = bytearray(whole)
    for place in draw(st.lists(st.integers(0, len(content) - 1), max_size=8)):
        content[place] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.integers(0, len(content)))]) + draw(st.binary(max_size=8))


@st.composite
def with_header(draw: st.DrawFn) -> bytes:
    """A `.npy` with any header, and any content."""
    header = " ".join(draw(WORDS)).encode("utf-8", "replace")[:60_000]
    version = bytes([draw(st.integers(0, 4)), draw(st.integers(0, 1))])
    length = len(header).to_bytes(2 if version[0] < 2 else 4, "little")
    return b"\x93NUMPY" + version + length + header + draw(st.binary(max_size=64))


@fuzz
@given(poses=damaged(NPY) | with_header() | st.binary(max_size=200))
def test_npy(client: TestClient, poses: bytes) -> None:
    files = {"input_reference": PICTURE, "poses": poses, "intrinsics": INTRINSICS}
    check(client.post("/v1/videos", data={"prompt": PROMPT}, files=files))


@fuzz
@given(image=damaged(PICTURE) | damaged(picture(kind="JPEG")) | damaged(picture(kind="WEBP")))
def test_images(client: TestClient, image: bytes) -> None:
    check(client.post("/v1/videos", data={"prompt": PROMPT}, files={"input_reference": image}))


PIECES = st.sampled_from(
    [
        *(b"--x\r\n", b"--x--", b"--x--\r\n", b"\r\n", b"\n", b"--", b"--y\r\n", b":", b";", b'"'),
        *(b"Content-Disposition: form-data; name=model\r\n", b"Content-Disposition:"),
        b'Content-Disposition: form-data; name="poses"; filename="../../etc/passwd"\r\n',
        b'Content-Disposition: form-data; name="input_reference"; filename="a"\r\n',
        *(b"Content-Type: image/png\r\n", b"Content-Transfer-Encoding: base64\r\n", b"form-data"),
        *(b"filename*=utf-8''%00", PICTURE, NPY, b"Content-Length: -1\r\n"),
    ]
)


@fuzz
@given(
    pieces=st.lists(PIECES | st.binary(max_size=40), max_size=30),
    boundary=st.sampled_from(
        ["boundary=x", "", "boundary=", 'boundary="x"', "boundary=x; boundary=y"]
    ),
)
def test_multipart(client: TestClient, pieces: list[bytes], boundary: str) -> None:
    headers = {"content-type": f"multipart/form-data; {boundary}"}
    check(client.post("/v1/videos", content=b"".join(pieces), headers=headers))


NUMBERS = (
    st.integers()
    | st.floats()
    | st.sampled_from([1e308, -0.0, 10**400, 2**63, 2**64, -1, float("nan"), float("inf")])
)
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=30)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=24,
)
MATRICES = st.lists(st.lists(st.lists(NUMBERS, min_size=4, max_size=4), min_size=4, max_size=4))
CAMERAS = st.fixed_dictionaries(
    {"poses": MATRICES | VALUES, "intrinsics": st.lists(st.lists(NUMBERS)) | VALUES}
)


def post_json(client: TestClient, content: object, **headers: Any) -> httpx.Response:
    whole = {"content-type": "application/json", **headers}
    return client.post("/v1/videos", content=json.dumps(content), headers=whole)


@fuzz
@given(sent=CAMERAS | VALUES)
def test_camera(client: TestClient, sent: object) -> None:
    check(post_json(client, {**body(prompt=PROMPT), "camera": sent}))


FIELDS = st.sampled_from(
    [
        *("model", "seconds", "size", "num_frames", "fps", "seed", "negative_prompt"),
        *("num_inference_steps", "guidance_scale", "flow_shift", "boundary_ratio", "sampler"),
        *("input_reference", "return_tensors", "deadline_s", "priority", "camera"),
    ]
)
SPELLED = st.sampled_from(["9" * 5000, "-1", "1e9", "0x9", "٣", "²", "1_0", "9x9", "99999x99999"])
URLS = st.fixed_dictionaries({"image_url": ANY_TEXT | st.sampled_from(["https://\ud800", "data:"])})


@fuzz
@given(fields=st.dictionaries(FIELDS | ANY_TEXT, VALUES | SPELLED | URLS, max_size=4))
def test_fields(client: TestClient, fields: dict[str, object]) -> None:
    check(post_json(client, {**body(prompt=PROMPT), **fields}))


@fuzz
@given(text=st.binary(max_size=200) | st.text().map(lambda text: b'{"prompt": ' + text.encode()))
def test_json(client: TestClient, text: bytes) -> None:
    check(client.post("/v1/videos", content=text, headers={"content-type": "application/json"}))


# What HTTP itself lets through in the value of a header.
VALUE = st.text(
    st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60
).map(lambda text: text.encode("latin-1"))
POSITION = st.integers(0, 10**25).map(str) | st.sampled_from(["", "0", "4999", "5000", "²", "-1"])
RANGES = st.builds(
    lambda unit, spans: f"{unit}={','.join('-'.join(span) for span in spans)}".encode("latin-1"),
    st.sampled_from(["bytes", "Bytes", "items", "", "bytes "]),
    st.lists(st.tuples(POSITION, POSITION), max_size=20),
)


@fuzz
@given(asked=VALUE | RANGES, tag=VALUE)
def test_range(client: TestClient, asked: bytes, tag: bytes) -> None:
    headers = {"range": asked, "if-range": tag, "if-none-match": tag}
    for chosen in ({"range": asked}, headers):
        answer = client.get(f"/v1/videos/{DONE}/content", headers=chosen)
        assert answer.status_code in (200, 206, 304, 400, 412, 416)


MARKS = st.from_regex(r"[0-9]{0,12}-[a-z_]{0,50}-?[0-9]{0,12}", fullmatch=True)


# A stream takes half a second to begin.
@settings(fuzz, max_examples=max(1, EXAMPLES // 20))
@given(mark=VALUE | MARKS.map(str.encode))
def test_last_event_id(client: TestClient, mark: bytes) -> None:
    answer = client.get(f"/v1/videos/{DONE}/events", headers={"last-event-id": mark})
    assert answer.status_code == 200


@fuzz
@given(key=VALUE, retries=VALUE | SPELLED.map(lambda text: text.encode("utf-8")))
def test_idempotency_key(client: TestClient, key: bytes, retries: bytes) -> None:
    check(
        post_json(
            client,
            body(prompt=PROMPT),
            **{"idempotency-key": key, "x-stainless-retry-count": retries},
        )
    )


@fuzz
@given(name=ANY_TEXT, value=VALUE)
def test_names_and_cursors(client: TestClient, name: str, value: bytes) -> None:
    quoted = "".join(f"%{byte:02x}" for byte in name.encode("utf-8", "replace"))
    headers = {"authorization": value, "accept": value, "x-request-id": value}
    for path in (f"/v1/videos/{quoted}", f"/v1/videos?after={quoted}&limit={quoted}"):
        check(client.get(path, headers=headers))
    check(client.get(f"/v1/videos/{DONE}/content?variant={quoted}"))
    check(client.delete(f"/v1/videos/x{quoted}"))
