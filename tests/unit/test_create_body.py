"""Request bodies over a real ASGI application, without Ray."""

from collections.abc import Iterator

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.testclient import TestClient

from deployments.api import errors as http_errors
from deployments.api.admission import admit
from deployments.api.create_body import read_create_body
from deployments.gateway_config import GatewayConfig
from deployments.ids import JobIds
from model.prompts import DEFAULT_NEGATIVE_PROMPT
from tests.support.server import body, camera, picture

CONFIG = GatewayConfig.model_validate(
    {"preset": "480*832", "limits": {"max_body_bytes": 2**19, "max_num_frames": 161}}
)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    api = FastAPI()
    http_errors.install(api)

    @api.post("/v1/videos")
    async def create(request: Request) -> dict[str, object]:
        admitted = admit(
            await read_create_body(request, max_bytes=2**19), CONFIG, JobIds("video_1")
        )
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

    with TestClient(api, raise_server_exceptions=False) as client:
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
