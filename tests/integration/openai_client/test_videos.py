"""The stock OpenAI client against the whole product, with nothing of ours on its side."""

import io
import json
import re
import time
from typing import Any

import av
import numpy as np
import openai
import pytest
from openai import OpenAI
from openai.types import Video

from tests.support.openai_client import PROMPT, make
from tests.support.server import camera, data_url, picture

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


# Creating


def test_a_form_with_a_file(client: OpenAI, video: Video) -> None:
    assert video.id.startswith("video_")
    assert (video.object, video.status, video.progress) == ("video", "queued", 0)
    assert (video.prompt, video.seconds, video.error) == (PROMPT, "0.5", None)
    assert abs(video.created_at - time.time()) < 60


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_each_kind_of_image(client: OpenAI, kind: str) -> None:
    upload = (f"first.{kind.lower()}", picture(kind=kind), f"image/{kind.lower()}")
    client.videos.delete(make(client, input_reference=upload).id)


def test_a_file_object_and_a_path(client: OpenAI, tmp_path: Any) -> None:
    (path := tmp_path / "first.png").write_bytes(picture())
    client.videos.delete(make(client, input_reference=path).id)
    with path.open("rb") as file:
        client.videos.delete(make(client, input_reference=file).id)


def test_a_data_url_in_the_extra_body(client: OpenAI) -> None:
    reference = {"image_url": data_url(picture())}
    created = client.videos.create(prompt=PROMPT, extra_body={"input_reference": reference})
    assert client.videos.delete(created.id).deleted


def test_a_json_body(client: OpenAI) -> None:
    fields = {"prompt": PROMPT, "input_reference": {"image_url": data_url(picture())}, "seed": 5}
    created = client.post("/videos", body=fields, cast_to=Video)
    assert created.model_extra is not None
    assert created.model_extra["seed"] == 5
    client.videos.delete(created.id)


EXTRA: dict[str, tuple[Any, str, Any]] = {
    "num_frames": (5, "num_frames", 5),
    "seed": (2**63 - 1, "seed", 2**63 - 1),
    "negative_prompt": ("dull", "prompt", PROMPT),
    "num_inference_steps": (4, "num_inference_steps", 4),
    "guidance_scale": (3.5, "notes", []),
    "guidance_scale_2": (3.5, "notes", []),
    "flow_shift": (5.0, "notes", []),
    "boundary_ratio": (0.9, "notes", []),
    "sampler": ("dpm++", "notes", []),
    "fps": (16, "fps", 16),
    "return_tensors": (True, "notes", []),
    "camera": (json.dumps(camera(5)), "num_frames", 5),
    "deadline_s": (3600, "notes", []),
    "priority": ("high", "priority", "high"),
}


@pytest.mark.parametrize("field", EXTRA)
def test_each_field_of_the_extra_body(client: OpenAI, field: str) -> None:
    sent, shown, value = EXTRA[field]
    created = make(client, **{field: sent})
    client.videos.delete(created.id)
    told = {**created.model_dump(), **(created.model_extra or {})}
    assert told[shown] == value


def test_size_and_seconds_are_the_clients_own(client: OpenAI) -> None:
    created = make(client, size="112x64", seconds="1")
    client.videos.delete(created.id)
    assert created.seconds == "1"
    assert re.fullmatch(r"\d+x\d+", created.size)


# Looking


def test_create_and_poll(client: OpenAI, done: list[Video]) -> None:
    for video in done:
        assert (video.status, video.progress, video.error) == ("completed", 100, None)
        assert video.completed_at is not None
        assert video.completed_at >= video.created_at


def test_polls_go_at_the_servers_pace(client: OpenAI, video: Video, done: list[Video]) -> None:
    running = client.videos.with_raw_response.retrieve(video.id)
    over = client.videos.with_raw_response.retrieve(done[0].id)
    assert 500 <= int(running.headers["openai-poll-after-ms"]) <= 10_000
    assert "openai-poll-after-ms" not in over.headers


def test_poll_with_an_interval(client: OpenAI, done: list[Video]) -> None:
    assert client.videos.poll(done[0].id, poll_interval_ms=50).status == "completed"


def test_retrieve_tells_the_same(client: OpenAI, done: list[Video]) -> None:
    assert client.videos.retrieve(done[0].id) == done[0]


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_in_both_orders(client: OpenAI, done: list[Video], order: Any) -> None:
    everything = [video.id for video in client.videos.list(limit=100, order=order)]
    paged = [video.id for video in client.videos.list(limit=2, order=order)]
    assert paged == everything
    assert len(set(everything)) == len(everything) >= 3


def test_orders_are_each_others_reverse(client: OpenAI, done: list[Video]) -> None:
    newest = [video.id for video in client.videos.list(order="desc")]
    assert newest[::-1] == [video.id for video in client.videos.list(order="asc")]


def test_a_page_knows_its_next(client: OpenAI, done: list[Video]) -> None:
    page = client.videos.list(limit=1)
    assert page.has_next_page()
    following = page.get_next_page()
    assert following.data[0].id != page.data[0].id
    assert [v.id for v in client.videos.list(limit=1, after=page.data[0].id).data] == [
        following.data[0].id
    ]


def test_download(client: OpenAI, done: list[Video], tmp_path: Any) -> None:
    mp4 = client.videos.download_content(done[0].id).read()
    client.videos.download_content(done[0].id).write_to_file(tmp_path / "video.mp4")
    assert (tmp_path / "video.mp4").read_bytes() == mp4
    with av.open(io.BytesIO(mp4)) as file:
        assert sum(1 for _ in file.decode(video=0)) == 9


def test_a_streamed_download(client: OpenAI, done: list[Video]) -> None:
    with client.videos.with_streaming_response.download_content(done[0].id) as answer:
        streamed = b"".join(answer.iter_bytes())
    assert streamed == client.videos.download_content(done[0].id).content


def test_a_variant_of_ours(client: OpenAI, done: list[Video]) -> None:
    tensors: Any = "tensors"
    assert len(client.videos.download_content(done[0].id, variant=tensors).read()) > 1000


def test_seeds_decide(client: OpenAI, done: list[Video]) -> None:
    first, second = (client.videos.download_content(video.id).read() for video in done[:2])
    assert not np.array_equal(np.frombuffer(first, np.uint8), np.frombuffer(second, np.uint8))


def test_delete(client: OpenAI) -> None:
    created = make(client)
    deleted = client.videos.delete(created.id)
    assert (deleted.id, deleted.deleted, deleted.object) == (created.id, True, "video.deleted")
    with pytest.raises(openai.NotFoundError):
        client.videos.delete(created.id)


def test_cancel(client: OpenAI, video: Video) -> None:
    cancelled = client.post(f"/videos/{video.id}/cancel", cast_to=Video)
    assert (cancelled.status, cancelled.model_extra and cancelled.model_extra["state_detail"]) == (
        "failed",
        "cancelled",
    )
    assert cancelled.error is not None
    assert cancelled.error.code == "cancelled"
    assert client.videos.poll(video.id).status == "failed"


def test_cancel_leaves_a_finished_video_alone(client: OpenAI, done: list[Video]) -> None:
    assert client.post(f"/videos/{done[0].id}/cancel", cast_to=Video).status == "completed"
