"""Addresses that users name: which are called, and that nothing leads around the check."""

import asyncio
import itertools
import ssl
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address, ip_network

import pytest
import trustme

from deployments.addresses import is_allowed, resolve
from deployments.errors import OutboundFailedError, OutboundRefusedError
from deployments.outbound import OutboundClient, OutboundSettings
from tests.support.other_host import OtherHost, other_host, redirects, sends

LOOPBACK = OutboundSettings(allow_http=True, allow_networks=("127.0.0.1/32",))
PNG = ("image/png",)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1"),
        *("169.254.169.254", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
        *("192.0.2.1", "198.18.0.1", "192.0.0.1"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1"),
        *("fec0::1", "2001:db8::1", "100::1", "::7f00:1", "::808:808"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"),
        *("64:ff9b:1::808:808", "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
    ],
)
def test_address_that_is_not_public(address: str) -> None:
    assert not is_allowed(ip_address(address))


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_address_that_is_public(address: str) -> None:
    assert is_allowed(ip_address(address))


@pytest.mark.parametrize("address", ["10.8.1.1", "::ffff:10.8.1.1"])
def test_networks_of_ones_own_are_allowed_by_name_only(address: str) -> None:
    assert is_allowed(ip_address(address), (ip_network("10.8.0.0/16"),))
    assert not is_allowed(ip_address(address), (ip_network("10.9.0.0/16"),))


@pytest.fixture(scope="module")
def inside() -> Iterator[OtherHost]:
    """What must not be reached: it listens on a loopback address that is not allowed."""
    with other_host({"/": sends(b"secret")}, address="127.0.0.2") as host:
        yield host


def get(url: str, client: OutboundClient | None = None, *, max_bytes: int = 1000) -> bytes:
    client = OutboundClient(LOOPBACK) if client is None else client
    return asyncio.run(client.get(url, max_bytes=max_bytes, content_types=PNG))


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.2", "2130706434", "0x7f000002", "0177.0.0.2", "127.2", "127.0.2"),
        *("[::ffff:127.0.0.2]", "[::ffff:7f00:2]", "127。0。0。2", "①②⑦.0.0.2"),
    ],
)
def test_spellings_of_a_private_address(inside: OtherHost, host: str) -> None:
    before = len(inside.requests)
    with pytest.raises((OutboundRefusedError, OutboundFailedError)):
        get(inside.url("/", host=host))
    assert len(inside.requests) == before


def test_the_system_knows_the_spellings() -> None:
    """Without this the test above would pass on hosts that merely cannot be found."""
    assert asyncio.run(resolve("2130706434", 80)) == ["127.0.0.2"]
    assert asyncio.run(resolve("0x7f000002", 80)) == ["127.0.0.2"]


@pytest.mark.parametrize(
    "url",
    [
        *("file:///etc/passwd", "ftp://127.0.0.1/a", "gopher://127.0.0.1/", "/etc/passwd", ""),
        *("../../etc/passwd", "https://", "https://[::1", "https://user:word@127.0.0.1/"),
        *(
            "http:///x",
            "\\\\host\\share",
            "data:image/png;base64,AA==",
            "https://\x00/",
            "https://\ud800/",
        ),
    ],
)
def test_what_is_no_web_address(url: str) -> None:
    with pytest.raises(OutboundRefusedError):
        get(url)


def test_https_only_unless_told_otherwise() -> None:
    with other_host({"/a.png": sends(b"png")}) as host:
        plain = OutboundSettings(allow_networks=("127.0.0.1/32",))
        with pytest.raises(OutboundRefusedError, match="https"):
            get(host.url("/a.png"), OutboundClient(plain))
        assert host.requests == []
        assert get(host.url("/a.png")) == b"png"


def test_a_redirect_is_vetted_too(inside: OtherHost) -> None:
    before = len(inside.requests)
    answers = {"/hop": redirects("/to"), "/to": redirects(inside.url("/"))}
    with other_host(answers) as host:
        with pytest.raises(OutboundRefusedError, match="not public"):
            get(host.url("/hop"))
        assert [path for path, _ in host.requests] == ["/hop", "/to"]
    assert len(inside.requests) == before


def test_three_redirects_and_no_more() -> None:
    answers = {f"/{n}": redirects(f"/{n + 1}") for n in range(4)}
    with other_host({**answers, "/4": sends(b"png")}) as host:
        assert get(host.url("/1")) == b"png"
        with pytest.raises(OutboundFailedError, match="redirects"):
            get(host.url("/0"))


class Rebinding:
    """A name server that gives an allowed address first and a private one ever after."""

    def __init__(self) -> None:
        self.answers = itertools.chain(["127.0.0.1"], itertools.repeat("127.0.0.2"))
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return [next(self.answers)]


def test_a_name_that_changes_its_address_is_asked_once(inside: OtherHost) -> None:
    resolver, before = Rebinding(), len(inside.requests)
    client = OutboundClient(LOOPBACK, resolver=resolver)
    with other_host({"/a.png": sends(b"png")}) as host:
        assert get(host.url("/a.png", host="rebind.test"), client) == b"png"
        assert host.requests == [("/a.png", f"rebind.test:{host.port}")]
        with pytest.raises(OutboundRefusedError):
            get(host.url("/a.png", host="rebind.test"), client)
    assert resolver.asked == ["rebind.test"] * 2
    assert len(inside.requests) == before


def test_a_name_with_a_public_and_a_private_address() -> None:
    async def both(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1", "127.0.0.2"]

    with other_host({"/a.png": sends(b"png")}) as host:
        with pytest.raises(OutboundRefusedError):
            get(host.url("/a.png", host="both.test"), OutboundClient(LOOPBACK, resolver=both))
        assert host.requests == []


def test_the_next_address_where_one_does_not_answer() -> None:
    settings = OutboundSettings(allow_http=True, allow_networks=("127.0.0.0/8",))

    async def two(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.9", "127.0.0.1"]

    with other_host({"/a.png": sends(b"png")}) as host:
        client = OutboundClient(settings, resolver=two)
        assert get(host.url("/a.png", host="two.test"), client) == b"png"


async def _everything_is_here(host: str, port: int) -> Sequence[str]:
    return ["127.0.0.1"]


def test_tls_is_with_the_name_and_not_with_the_address() -> None:
    authority = trustme.CA()
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("images.test").configure_cert(theirs)
    ours = ssl.create_default_context()
    authority.configure_trust(ours)
    settings = OutboundSettings(allow_networks=("127.0.0.1/32",))
    client = OutboundClient(settings, resolver=_everything_is_here, tls=ours)
    with other_host({"/a.png": sends(b"png")}, tls=theirs) as host:
        assert get(host.url("/a.png", host="images.test"), client) == b"png"
        assert host.names == ["images.test"]
        with pytest.raises(OutboundFailedError):
            get(host.url("/a.png", host="another.test"), client)
        stranger = OutboundClient(settings, resolver=_everything_is_here)
        with pytest.raises(OutboundFailedError):
            get(host.url("/a.png", host="images.test"), stranger)
        assert len(host.requests) == 1


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with other_host({"/a.png": sends(b"png")}) as host, other_host({}) as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url(""))
        assert get(host.url("/a.png")) == b"png"
        assert proxy.requests == []


@pytest.mark.parametrize(
    ("content", "headers", "problem"),
    [
        (b"x" * 1001, {}, "longer than 1000"),
        (b"x" * 1001, {"content_length": ""}, "longer than 1000"),
        (b"<html>", {"content_type": "text/html"}, "none of image/png"),
        (b"x", {"content_encoding": "gzip"}, "compressed"),
    ],
)
def test_what_is_no_small_image(content: bytes, headers: dict[str, str], problem: str) -> None:
    answers = {"/a": sends(content, **headers)}
    with other_host(answers) as host, pytest.raises(OutboundFailedError, match=problem):
        get(host.url("/a"))


def test_another_status() -> None:
    with other_host({}) as host, pytest.raises(OutboundFailedError, match="404"):
        get(host.url("/a"))


def test_a_host_that_drips_is_left_at_the_deadline() -> None:
    over = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "image/png")
        handler.end_headers()
        while not over.wait(0.05):
            handler.wfile.write(b"x")
            handler.wfile.flush()

    settings = LOOPBACK.model_copy(update={"timeout_s": 0.3})
    with other_host({"/a": drip}) as host:
        with pytest.raises(OutboundFailedError, match=r"0\.3 s"):
            get(host.url("/a"), OutboundClient(settings))
        over.set()


def test_post_takes_a_redirect_as_an_answer() -> None:
    with other_host({"/hook": sends(b"thanks"), "/moved": redirects("/hook")}) as host:
        client = OutboundClient(LOOPBACK)

        async def post(path: str) -> tuple[int, bytes]:
            reply = await client.post(host.url(path), content=b"{}", headers={"webhook-id": "1"})
            return reply.status, reply.body

        assert asyncio.run(post("/hook")) == (200, b"thanks")
        assert asyncio.run(post("/moved")) == (302, b"")
        assert host.bodies == [b"{}", b"{}"]
        assert [path for path, _ in host.requests] == ["/hook", "/moved"]


def test_of_a_long_answer_the_beginning_is_read() -> None:
    with other_host({"/hook": sends(b"x" * 2**20)}) as host:
        reply = asyncio.run(
            OutboundClient(LOOPBACK).post(host.url("/hook"), content=b"", headers={})
        )
    assert len(reply.body) == 2**16


def test_networks_are_checked_when_they_are_read() -> None:
    with pytest.raises(ValueError, match="allow_networks"):
        OutboundSettings(allow_networks=("10.0.0.0/33",))
