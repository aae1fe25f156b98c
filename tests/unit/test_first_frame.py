"""Where a first frame may come from, and that no address names a file of the server's."""

import asyncio
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from deployments.api.create_body import CreateBody, validate
from deployments.gateway_config import GatewayConfig
from deployments.images.first_frame import FirstFrames, data_url_bytes
from model.errors import InvalidInputError
from tests.support.other_host import other_host, redirects, sends
from tests.support.server import body, data_url, picture

LOOPBACK = {"enabled": True, "allow_http": True, "allow_networks": ["127.0.0.1/32"]}


def read(url: str, **fetch: Any) -> tuple[int, ...]:
    """The shape of the image at an address."""
    config = GatewayConfig.model_validate({"fetch": fetch, "limits": {"max_body_bytes": 10_000}})
    sent = CreateBody(validate(body(input_reference={"image_url": url})), {})
    with closing(FirstFrames(config.fetch, config.limits)) as frames:
        return asyncio.run(frames.read(sent)).shape


def test_data_urls() -> None:
    assert data_url_bytes(data_url(b"abc")) == b"abc"
    for url in ("data:text/html;base64,YQ==", "data:image/png,abc", "data:image/png;base64,§", ""):
        with pytest.raises(InvalidInputError, match="image_url"):
            data_url_bytes(url)


def test_addresses_are_not_fetched_unless_it_is_switched_on() -> None:
    with other_host({"/a.png": sends(picture())}) as host:
        with pytest.raises(InvalidInputError, match="fetches no URLs; upload"):
            read(host.url("/a.png"), **{**LOOPBACK, "enabled": False})
        assert host.requests == []
        assert read(host.url("/a.png"), **LOOPBACK) == (56, 96, 3)


@pytest.mark.parametrize("fetch", [{}, LOOPBACK, {"enabled": True}])
@pytest.mark.parametrize(
    "url",
    [
        *("file://{path}", "FILE://{path}", "file:{path}", "{path}", "../../../../..{path}"),
        *("file://localhost{path}", "data:{path}", "data:image/png;base64,{path}"),
        *("https://{path}", "https:{path}", "http:///../{path}", "https://localhost{path}"),
        *("https://127.0.0.1/..{path}", "image.png", ".", "~/image.png", "jar:file://{path}!/"),
    ],
)
def test_no_address_names_a_file_of_the_server(
    url: str, fetch: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(picture())
    with pytest.raises(InvalidInputError, match="image_url"):
        read(url.format(path=path), **fetch)


def test_what_is_fetched_is_vetted_and_bounded() -> None:
    answers = {
        "/long": sends(b"x" * 10_001),
        "/text": sends(b"hello", "text/plain"),
        "/inside": redirects("http://127.0.0.2/"),
        "/none": sends(b"hello"),
    }
    with other_host(answers) as host:
        for path, problem in {
            "/long": "image_url: is longer than 10000 bytes",
            "/text": "image_url: is none of image/png",
            "/inside": "image_url: its host has an address that is not public",
            "/none": "no image that can be read",
        }.items():
            with pytest.raises(InvalidInputError, match=problem):
                read(host.url(path), **LOOPBACK)
