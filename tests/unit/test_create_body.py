"""Request bodies over a real ASGI application, without Ray."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.testclient import TestClient
from starlette.types import Message

from deployments.api import errors as http_errors
from deployments.api.admission import admit
from deployments.api.create_body import read_create_body
from deployments.errors import BodyTooSlowError
from deployments.gateway_config import GatewayConfig, Limits
from deployments.ids import JobIds
from deployments.images.first_frame import FirstFrames
from model.prompts import DEFAULT_NEGATIVE_PROMPT
from tests.support.server import body, camera, picture

CONFIG = GatewayConfig.model_validate(
    {"preset": "480*832", "limits": {"max_body_bytes": 2**19, "max_num_frames": 161}}
)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    api = FastAPI()
    first_frames = FirstFrames(CONFIG.fetch, CONFIG.limits)
    http_errors.install(api)

    @api.post("/v1/videos")
    async def create(request: Request) -> dict[str, object]:
        sent = await read_create_body(request, CONFIG.limits)
        admitted = admit(sent, await first_frames.read(sent), CONFIG, JobIds("video_1"))
        wanted = admitted.request
        return {
            "id": wanted.job_id,
            "frames": wanted.shape.num_frames,
            "size": [wanted.shape.width, wanted.shape.height],
            "poses": None if wanted.camera is None else len(wanted.camera.poses),
            "negative_prompt": wanted.negative_prompt,
            "steps": wanted.sampler.num_inference_steps,
            "shift": wanted.sampler.flow_shift,
            "solver": wanted.sampler.solver.value,
            "seed": wanted.seed,
            "notes": admitted.notes,
        }

    with closing(first_frames), TestClient(api, raise_server_exceptions=False) as client:
        yield client


def post(client: TestClient, **fields: object) -> httpx.Response:
    return client.post("/v1/videos", json=body(**fields))


def test_what_is_left_out_takes_the_preset(client: TestClient) -> None:
    answer = post(client).json()
    assert (answer["frames"], answer["steps"], answer["shift"]) == (81, 70, 10.0)
    assert answer["solver"] == "unipc"
    assert answer["negative_prompt"] == DEFAULT_NEGATIVE_PROMPT
    assert answer["size"] == [816, 480]  # an area of 480*832 at 96:56


def test_what_is_sent_is_taken(client: TestClient) -> None:
    fields = {"num_inference_steps": "12", "sampler": "dpm++", "negative_prompt": "dull"}
    answer = post(client, seconds="2", flow_shift=3, size="160x96", **fields).json()
    assert (answer["frames"], answer["steps"], answer["shift"]) == (33, 12, 3.0)
    assert (answer["solver"], answer["negative_prompt"]) == ("dpm++", "dull")


def test_a_seed_is_drawn_where_none_is_sent(client: TestClient) -> None:
    seeds = {post(client, seed=None).json()["seed"] for _ in range(3)}
    assert len(seeds) == 3


def test_fewer_poses_cap_the_frames(client: TestClient) -> None:
    answer = post(client, camera=camera(40)).json()
    assert (answer["frames"], answer["poses"]) == (37, 40)
    assert "from 81 to 37" in answer["notes"][0]
    assert post(client, camera=camera(81)).json()["notes"] == []


def test_fields_of_a_form_are_the_same(client: TestClient) -> None:
    data = {"prompt": "a house", "num_frames": "5", "seed": "9", "return_tensors": "true"}
    answer = client.post("/v1/videos", data=data, files={"input_reference": picture()})
    assert (answer.json()["frames"], answer.json()["seed"]) == (5, 9)


def test_a_part_sent_twice_is_refused(client: TestClient) -> None:
    files = [("input_reference", picture()), ("input_reference", picture())]
    answer = client.post("/v1/videos", data={"prompt": "a house"}, files=files)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "input_reference"


def test_a_body_that_lies_about_its_length_is_cut(client: TestClient) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(64):
            yield b" " * 2**14

    headers = {"content-type": "multipart/form-data; boundary=x"}
    assert client.post("/v1/videos", content=chunks(), headers=headers).status_code == 413


@pytest.mark.parametrize("text", [b"[" * 100_000, b'{"prompt": \xff}', b"nonsense"])
def test_broken_json_is_refused(client: TestClient, text: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = client.post("/v1/videos", content=text, headers=headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "body")


def test_a_body_that_is_no_object_is_named_as_such(client: TestClient) -> None:
    answer = client.post("/v1/videos", content=b"[]", headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "body")


def test_a_content_length_that_is_no_number(client: TestClient) -> None:
    headers = {"content-type": "application/json", "content-length": "many"}
    answer = client.post("/v1/videos", content=b"{}", headers=headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "prompt")


def test_json_of_too_many_values_is_refused_before_it_is_parsed(client: TestClient) -> None:
    headers = {"content-type": "application/json"}
    text = b'{"camera": {"poses": [' + b"1," * 200_000 + b"this is no JSON at all"
    answer = client.post("/v1/videos", content=text, headers=headers)
    assert answer.status_code == 400
    assert "more than 82920 values" in answer.json()["error"]["message"]


@pytest.mark.parametrize("name", ["\ud800", "a\n\x1b[31mb", "x" * 100_000, "\0"])
def test_names_of_strangers_come_back_printable_and_short(client: TestClient, name: str) -> None:
    headers = {"content-type": "application/json"}
    text = json.dumps({**body(), name: 1})
    answer = client.post("/v1/videos", content=text, headers=headers)
    assert answer.status_code == 400
    param = answer.json()["error"]["param"]
    assert param.isprintable() and 0 < len(param) <= 80


@pytest.mark.parametrize("text", ["a\0b", "a\x1b[2Jb", "\x7f", "a\x85b", "\ud800"])
@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_control_characters_in_a_prompt_are_refused(
    client: TestClient, field: str, text: str
) -> None:
    headers = {"content-type": "application/json"}
    answer = client.post("/v1/videos", content=json.dumps(body(**{field: text})), headers=headers)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)


def test_prompts_of_several_lines_are_fine(client: TestClient) -> None:
    assert post(client, prompt="a house\r\n\tby the sea \N{HOUSE BUILDING}").status_code == 200


@pytest.mark.parametrize("charset", ["utf-7", "zip", "rot13", "unicode_escape", "utf-16", ""])
def test_text_in_other_encodings_is_refused(client: TestClient, charset: str) -> None:
    headers = {"content-type": f"multipart/form-data; boundary=x; charset={charset}"}
    answer = client.post("/v1/videos", content=b"--x--", headers=headers)
    assert answer.status_code == 415


def part(name: str, value: bytes = b"1", *, extra: bytes = b"") -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"\r\n'.encode()
    return b"--x\r\n" + disposition + extra + b"\r\n" + value + b"\r\n"


@pytest.mark.parametrize(
    "content",
    [
        b"".join(part(f"field{n}") for n in range(100)),
        part("prompt", extra=b"X-Long: " + b"x" * 100_000 + b"\r\n"),
        part("prompt", extra=b"".join(b"X-%d: 1\r\n" % n for n in range(2_000))),
        part("x" * 100_000),
        b"--x\r\n\r\n1\r\n",
        b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n",
        b"nonsense",
    ],
)
def test_multipart_that_means_harm(client: TestClient, content: bytes) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = client.post("/v1/videos", content=content + b"--x--\r\n", headers=headers)
    assert answer.status_code == 400
    assert len(answer.content) < 1000


def test_a_body_that_stops_coming_is_given_up() -> None:
    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError("nothing ever comes")

    limits = Limits(body_timeout_s=0.05)
    headers = [(b"content-type", b"application/json")]
    request = Request({"type": "http", "headers": headers}, receive)
    with pytest.raises(BodyTooSlowError):
        asyncio.run(read_create_body(request, limits))
