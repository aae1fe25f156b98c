"""A stored file over HTTP: conditions, ranges and headers, from what its row says of it."""

import asyncio
import secrets
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from fastapi import Response
from fastapi.responses import RedirectResponse, StreamingResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from deployments.api.ranges import RangeNotSatisfiable, Span, wanted_spans
from deployments.artifacts.files import StoredFile
from deployments.artifacts.objects import Objects

# Each chunk is one message from the replica to the proxy, and all that a download holds here.
CHUNK_BYTES = 2**20

_YEAR_S = 31_536_000


@dataclass(frozen=True, slots=True)
class Download:
    """A file that a client may have.

    Args:
        video_id: Of its video.
        file: Which.
        expires_at: Unix time until which it is kept; None: until it is deleted.
    """

    video_id: str
    file: StoredFile
    expires_at: float | None = None

    @property
    def etag(self) -> str:
        return f'"{self.file.sha256}"'

    def headers(self) -> dict[str, str]:
        """What an answer says of the file, whichever part of it follows."""
        digest = b64encode(bytes.fromhex(self.file.sha256)).decode()
        age_s = _YEAR_S if self.expires_at is None else int(self.expires_at - time.time())
        return {
            "accept-ranges": "bytes",
            "cache-control": f"private, max-age={max(0, min(age_s, _YEAR_S))}, immutable",
            "content-disposition": f'attachment; filename="{self._filename()}"',
            "etag": self.etag,
            "repr-digest": f"sha-256=:{digest}:",
            "x-content-type-options": "nosniff",
            "x-video-id": self.video_id,
        }

    def _filename(self) -> str:
        name = self.file.name.rpartition("/")[2]
        stem, _, suffix = name.partition(".")
        return f"{self.video_id}.{suffix}" if stem == "video" else f"{self.video_id}-{name}"


def answer_without_content(download: Download, request: Headers) -> Response | None:
    """The answer to a client that has the file already; None to any other."""
    tags = [tag.strip().removeprefix("W/") for tag in request.get("if-none-match", "").split(",")]
    if download.etag in tags or tags == ["*"]:
        return Response(status_code=304, headers=download.headers())
    return None


def answer_head(download: Download) -> Response:
    """The headers of the whole file; the store is not asked."""
    return Response(headers=_whole(download), media_type=download.file.media_type)


async def redirect(download: Download, objects: Objects, expires_in_s: float) -> Response:
    """Sends the client to the object store, which answers ranges itself.

    Raises:
        ArtifactStoreError: The gateway's credentials cannot sign.
    """
    url = await asyncio.to_thread(objects.signed_url, download.file.name, expires_in_s)
    # Whoever keeps the address longer than it works finds a closed door.
    headers = {"cache-control": "no-store", "x-video-id": download.video_id}
    return RedirectResponse(url, status_code=307, headers=headers)


async def answer(download: Download, objects: Objects, request: Headers) -> Response:
    """The file or the parts that were asked for, a chunk in memory at a time.

    Raises:
        ArtifactStoreError: The store does not answer, or has lost the file.
        HTTPException: 416, no byte is in the ranges.
    """
    file = download.file
    spans = _spans(download, request)
    if spans is None:
        parts = [(b"", (0, file.num_bytes))]
        return await _stream(200, _whole(download), file.media_type, objects, file, parts)
    if len(spans) == 1:
        start, end = spans[0]
        headers = download.headers() | {
            "content-length": str(end - start),
            "content-range": _content_range(spans[0], file),
        }
        return await _stream(206, headers, file.media_type, objects, file, [(b"", spans[0])])
    return await _multipart(download, objects, spans)


def _spans(download: Download, request: Headers) -> list[Span] | None:
    # A part of another file than the client has would not fit; dates are not kept.
    if request.get("if-range", download.etag) != download.etag:
        return None
    num_bytes = download.file.num_bytes
    try:
        return wanted_spans(request.get("range"), num_bytes)
    except RangeNotSatisfiable as error:
        headers = {"content-range": f"bytes */{num_bytes}"}
        raise HTTPException(416, f"the file has {num_bytes} bytes", headers) from error


async def _multipart(download: Download, objects: Objects, spans: list[Span]) -> Response:
    file, boundary = download.file, secrets.token_hex(16)
    parts = [(_part_head(span, file, boundary), span) for span in spans]
    parts.append((f"\r\n--{boundary}--\r\n".encode(), (0, 0)))
    length = sum(len(head) + end - start for head, (start, end) in parts)
    headers = download.headers() | {"content-length": str(length)}
    media_type = f"multipart/byteranges; boundary={boundary}"
    return await _stream(206, headers, media_type, objects, file, parts)


def _part_head(span: Span, file: StoredFile, boundary: str) -> bytes:
    lines = (
        f"\r\n--{boundary}",
        f"content-type: {file.media_type}",
        f"content-range: {_content_range(span, file)}",
        "\r\n",
    )
    return "\r\n".join(lines).encode()


def _content_range(span: Span, file: StoredFile) -> str:
    return f"bytes {span[0]}-{span[1] - 1}/{file.num_bytes}"


def _whole(download: Download) -> dict[str, str]:
    return download.headers() | {"content-length": str(download.file.num_bytes)}


async def _stream(
    status: int,
    headers: dict[str, str],
    media_type: str,
    objects: Objects,
    file: StoredFile,
    parts: Iterable[tuple[bytes, Span]],
) -> Response:
    chunks = _chunks(objects, file, parts)
    # Read before the status is sent: a file that is gone is an error, not a short answer.
    first = await anext(chunks)
    body = _chain(first, chunks)
    return StreamingResponse(body, status, headers=headers, media_type=media_type)


async def _chain(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


async def _chunks(
    objects: Objects, file: StoredFile, parts: Iterable[tuple[bytes, Span]]
) -> AsyncIterator[bytes]:
    for head, (start, end) in parts:
        for at in range(start, end, CHUNK_BYTES):
            # Not in a thread: downloads of a slow store must not keep those of the leases.
            chunk = await objects.get_range(file.name, at, min(at + CHUNK_BYTES, end))
            yield head + chunk if at == start else chunk
        if start == end:
            yield head
