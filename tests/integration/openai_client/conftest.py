"""One client and three finished videos for all tests with the stock OpenAI client."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from openai import OpenAI
from openai.types import Video

from tests.support.openai_client import FIRST_FRAME, LONG, PROMPT, client_of, make
from tests.support.server import Server, camera


@pytest.fixture(scope="package")
def client(server: Server) -> Iterator[OpenAI]:
    with client_of(server) as client:
        yield client


@pytest.fixture
def video(client: OpenAI) -> Iterator[Video]:
    """A video that does not get done; it is gone after the test."""
    created = make(client, num_inference_steps=LONG)
    yield created
    if client.videos.retrieve(created.id):
        client.videos.delete(created.id)


@pytest.fixture(scope="package")
def done(client: OpenAI) -> list[Video]:
    """Three finished videos, oldest first."""
    camera_path = json.dumps(camera(9))
    with ThreadPoolExecutor(2) as pool:  # as many as the server works on and lets wait
        created = list(
            pool.map(
                lambda seed: client.videos.create_and_poll(
                    prompt=PROMPT,
                    input_reference=FIRST_FRAME,
                    extra_body={"seed": seed, "camera": camera_path, "return_tensors": True},
                ),
                (1, 2, 3),
            )
        )
    return sorted(created, key=lambda video: [v.id for v in client.videos.list()].index(video.id))
