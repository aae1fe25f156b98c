"""An HTTP client for addresses that users name: it reaches public hosts and nothing else.

The transport resolves a host once, vets every address and connects to one that it vetted, so that
a name server cannot answer differently the second time. Redirects pass through it too.
"""

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Annotated, Any, TypeVar

import httpx
from pydantic import AfterValidator, Field

from deployments.addresses import Network, Resolver, resolve, vetted
from deployments.errors import OutboundFailedError, OutboundRefusedError
from deployments.settings import Settings

_MAX_REDIRECTS = 3
_MAX_ADDRESSES = 4
_MAX_REPLY_BYTES = 2**16
_CONNECT_TIMEOUT_S = 5.0
_USER_AGENT = "lingbot-serve"

T = TypeVar("T")


def _is_network(text: str) -> str:
    ip_network(text)
    return text


class OutboundSettings(Settings):
    """Where the server may connect to on a user's word.

    Args:
        allow_http: Also take addresses without TLS.
        allow_networks: Networks that are fine although they are not public, such as `10.8.0.0/16`.
        timeout_s: Of one call, from looking up the host to the last byte, redirects included.
        max_concurrent: Calls at once; more wait for their turn.
    """

    allow_http: bool = False
    allow_networks: tuple[Annotated[str, AfterValidator(_is_network)], ...] = ()
    timeout_s: float = Field(default=10.0, gt=0, le=300)
    max_concurrent: int = Field(default=8, ge=1)

    def networks(self) -> tuple[Network, ...]:
        """`allow_networks` to compare with."""
        return tuple(ip_network(text) for text in self.allow_networks)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a host answered to a POST.

    Args:
        status: HTTP status.
        body: Its beginning, at most 64 KiB.
    """

    status: int
    body: bytes


class OutboundClient:
    """Calls hosts that users name. It holds no connections and no cookies between calls.

    Args:
        settings: What is allowed.
        resolver: Looks hosts up; the system's by default.
        tls: Certificates to trust; those of certifi by default.
    """

    def __init__(
        self,
        settings: OutboundSettings,
        *,
        resolver: Resolver = resolve,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._settings = settings
        self._resolver = resolver
        self._tls = httpx.create_ssl_context(trust_env=False) if tls is None else tls
        self._turns = asyncio.Semaphore(settings.max_concurrent)

    async def get(self, url: str, *, max_bytes: int, content_types: Sequence[str]) -> bytes:
        """Downloads a file, through at most three redirects.

        Args:
            url: Any string.
            max_bytes: Of the file; longer ones are not read to their end.
            content_types: Taken ones, in lower case.

        Raises:
            OutboundRefusedError: The URL or one that it leads to may not be called.
            OutboundFailedError: There is no such file, or not in time.
        """

        async def download(client: httpx.AsyncClient) -> bytes:
            headers = {"accept": ", ".join(content_types)}
            async with client.stream("GET", url, headers=headers) as response:
                _check_download(response, content_types)
                return await _read(response, max_bytes)

        return await self._call(download)

    async def post(self, url: str, *, content: bytes, headers: Mapping[str, str]) -> Reply:
        """Sends a body; a redirect is an answer like any other.

        Raises:
            OutboundRefusedError: The URL may not be called.
            OutboundFailedError: No answer, or not in time.
        """

        async def send(client: httpx.AsyncClient) -> Reply:
            request = client.build_request("POST", url, content=content, headers=headers)
            response = await client.send(request, stream=True, follow_redirects=False)
            try:
                return Reply(response.status_code, await _beginning(response))
            finally:
                await response.aclose()

        return await self._call(send)

    async def check(self, url: str) -> None:
        """Looks a host up and vets it, without calling it.

        Raises:
            OutboundRefusedError: The URL may not be called.
            OutboundFailedError: Its host cannot be found in time.
        """

        async def vet() -> None:
            await self._transport().addresses(httpx.URL(url))

        await self._in_time(vet())

    async def _call(self, use: Callable[[httpx.AsyncClient], Coroutine[Any, Any, T]]) -> T:
        return await self._in_time(self._with_client(use))

    async def _in_time(self, call: Coroutine[Any, Any, T]) -> T:
        async with self._turns:
            try:
                return await asyncio.wait_for(call, self._settings.timeout_s)
            except asyncio.TimeoutError as error:
                raise OutboundFailedError(
                    f"gave no whole answer in {self._settings.timeout_s:g} s"
                ) from error
            except (httpx.InvalidURL, UnicodeError) as error:
                raise OutboundRefusedError("is no valid URL") from error
            except httpx.TooManyRedirects as error:
                raise OutboundFailedError(f"redirects more than {_MAX_REDIRECTS} times") from error
            except httpx.HTTPError as error:
                raise OutboundFailedError("did not answer as a web server does") from error

    async def _with_client(self, use: Callable[[httpx.AsyncClient], Coroutine[Any, Any, T]]) -> T:
        async with httpx.AsyncClient(
            transport=self._transport(),
            headers={"user-agent": _USER_AGENT, "accept-encoding": "identity"},
            timeout=httpx.Timeout(self._settings.timeout_s, connect=_CONNECT_TIMEOUT_S),
            follow_redirects=True,
            max_redirects=_MAX_REDIRECTS,
            trust_env=False,
        ) as client:
            return await use(client)

    def _transport(self) -> "_VettedTransport":
        return _VettedTransport(self._settings, self._resolver, self._tls)


class _VettedTransport(httpx.AsyncBaseTransport):
    """Connects by address, and talks TLS and HTTP to the name."""

    def __init__(self, settings: OutboundSettings, resolver: Resolver, tls: ssl.SSLContext) -> None:
        self._schemes = ("https", "http") if settings.allow_http else ("https",)
        self._networks = settings.networks()
        self._resolver = resolver
        # A connection belongs to one name: two names may share an address, but no certificate.
        self._transport = httpx.AsyncHTTPTransport(
            verify=tls, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        addresses = await self.addresses(request.url)
        for address in addresses[:-1]:
            try:
                return await self._transport.handle_async_request(_readdressed(request, address))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return await self._transport.handle_async_request(_readdressed(request, addresses[-1]))

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def addresses(self, url: httpx.URL) -> list[str]:
        """Where a URL may be called.

        Raises:
            OutboundRefusedError: Nowhere.
            OutboundFailedError: Its host cannot be found.
        """
        if url.scheme not in self._schemes or not url.host:
            raise OutboundRefusedError(f"must be an {' or '.join(self._schemes)} address")
        if url.userinfo:
            raise OutboundRefusedError("must carry no user name and no password")
        try:
            found = await self._resolver(
                url.host, url.port or (443 if url.scheme == "https" else 80)
            )
        except (OSError, UnicodeError) as error:
            raise OutboundFailedError("names a host that cannot be found") from error
        if not found:
            raise OutboundFailedError("names a host that cannot be found")
        return vetted(found, self._networks)[:_MAX_ADDRESSES]


def _readdressed(request: httpx.Request, address: str) -> httpx.Request:
    """The same request to an address; its `Host` header and the name in TLS stay the host's."""
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": request.url.host},
    )


def _check_download(response: httpx.Response, content_types: Sequence[str]) -> None:
    if response.status_code != 200:
        raise OutboundFailedError(f"answered with the status {response.status_code}")
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in content_types:
        raise OutboundFailedError(f"is none of {', '.join(content_types)}")
    # What unpacks to more than it weighs is not asked for and not taken.
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise OutboundFailedError("is sent compressed, which was not asked for")


async def _read(response: httpx.Response, max_bytes: int) -> bytes:
    declared = response.headers.get("content-length", "")
    chunks, size = [], 0
    if not declared.isdecimal() or int(declared) <= max_bytes:
        async for chunk in response.aiter_raw():
            size += len(chunk)
            if size > max_bytes:
                break
            chunks.append(chunk)
        else:
            return b"".join(chunks)
    raise OutboundFailedError(f"is longer than {max_bytes} bytes")


async def _beginning(response: httpx.Response) -> bytes:
    body = b""
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) >= _MAX_REPLY_BYTES:
            break
    return body[:_MAX_REPLY_BYTES]
