"""The stock OpenAI client, as tests of the whole product use it."""

from typing import Any

from openai import OpenAI
from openai.types import Video

from tests.support.server import Server, picture

LONG = 400  # steps: far longer than any test looks at
PROMPT = "a house by the sea"
FIRST_FRAME = ("first.png", picture(), "image/png")


def client_of(server: Server, **options: Any) -> OpenAI:
    return OpenAI(api_key="none", base_url=f"{server.url}/v1", **{"max_retries": 0, **options})


def make(client: OpenAI, *, headers: dict[str, str] | None = None, **fields: Any) -> Video:
    """Creates a small video; what the client has no argument for goes into the extra body."""
    named = {name: fields.pop(name) for name in ("size", "seconds", "model") if name in fields}
    return client.videos.create(
        prompt=fields.pop("prompt", PROMPT),
        input_reference=fields.pop("input_reference", FIRST_FRAME),
        extra_body=fields,
        extra_headers=headers,
        **named,
    )
