"""A file that arrives whole or not at all, over as many connections as it takes."""

import random
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import httpx

from lingbot_serve.client.flows import Flow, Pause, Receive
from lingbot_serve.client.replies import answer
from lingbot_serve.client.retries import RetryPolicy
from lingbot_serve.client.video import Artifact
from lingbot_serve.errors import IntegrityError
from lingbot_serve.models.download import PARTIAL_SUFFIX
from model.checkpoint.manifest import sha256_of

_CONTENT_RANGE = re.compile(r"bytes (\d+)-")
_SHA256_TAG = re.compile(r'"([0-9a-f]{64})"')


class Download:
    """What has arrived of one file; a sink of flows.

    Args:
        path: Where the file belongs; what has arrived waits beside it.
        artifact: The content, if it is known; only then what an earlier process left is used.

    Attributes:
        reply_headers: Of the last reply that brought something of it.
    """

    def __init__(self, path: Path, artifact: Artifact | None) -> None:
        self._path = path
        self._bytes = None if artifact is None else artifact.bytes
        self._sha256 = None if artifact is None else artifact.sha256
        self._etag = None if artifact is None else f'"{artifact.sha256}"'
        self.reply_headers: Mapping[str, str] = {}
        self._file: BinaryIO | None = None
        # Named by content: nothing else may be appended to it.
        middle = "unnamed" if artifact is None else artifact.sha256[:16]
        self._partial = path.with_name(f"{path.name}.{middle}{PARTIAL_SUFFIX}")
        if artifact is None or self.size > artifact.bytes:
            self.forget()

    @property
    def size(self) -> int:
        """Bytes that have arrived."""
        try:
            return self._partial.stat().st_size
        except FileNotFoundError:
            return 0

    @property
    def is_whole(self) -> bool:
        """Whether an earlier process was stopped just before the end."""
        return self._bytes is not None and self.size == self._bytes > 0

    def headers(self) -> Mapping[str, str]:
        """What asks for the rest, of this very content; a compressed one could not be resumed."""
        headers = {"accept-encoding": "identity"}
        if self.size and self._etag is not None:
            headers |= {"range": f"bytes={self.size}-", "if-range": self._etag}
        return headers

    def begin(self, response: httpx.Response) -> None:
        """Goes on where the reply does: at the end of what is there, or at the start."""
        self.reply_headers = response.headers
        self._etag = response.headers.get("etag", self._etag)
        if self._sha256 is None and (tag := _SHA256_TAG.fullmatch(self._etag or "")):
            self._sha256 = tag.group(1)
        part = _CONTENT_RANGE.match(response.headers.get("content-range", ""))
        goes_on = part is not None and int(part.group(1)) == self.size
        if part is not None and not goes_on:
            raise httpx.RemoteProtocolError(
                "not the part that was asked for", request=response.request
            )
        self._file = self._partial.open("ab" if goes_on else "wb")

    def write(self, chunk: bytes) -> None:
        assert self._file is not None
        self._file.write(chunk)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def forget(self) -> None:
        """Removes what has arrived."""
        self._partial.unlink(missing_ok=True)

    def finish(self) -> None:
        """Puts the file where it belongs.

        Raises:
            IntegrityError: Its content is not what the server announced; it is removed.
        """
        if self._sha256 is not None and (found := sha256_of(self._partial)) != self._sha256:
            self.forget()
            raise IntegrityError(
                f"{self._path}: SHA-256 {found} instead of {self._sha256}; download it again"
            )
        self._partial.replace(self._path)


def download(
    target: Download,
    build: Callable[[Mapping[str, str]], httpx.Request],
    retries: RetryPolicy,
) -> Flow[None]:
    """Brings a file, from where the last connection broke.

    Args:
        target: The file.
        build: A request for it with some headers.
        retries: Of connections that bring nothing; one that brings something starts anew.

    Raises:
        ApiError: The server refused.
        ServerUnreachableError: The connection breaks again and again; what arrived is kept.
        IntegrityError: The content is wrong.
    """
    attempt = 0
    while not target.is_whole:
        before = target.size
        outcome = yield Receive(build(target.headers()), target)
        assert outcome is not None
        if isinstance(outcome, httpx.Response) and outcome.is_success:
            break
        if isinstance(outcome, httpx.Response) and outcome.status_code == 416 and before:
            target.forget()  # the server's file is shorter than what is here
            continue
        attempt = 0 if target.size > before else attempt
        delay_s = retries.delay_s(attempt, outcome, jitter=random.random())
        if delay_s is None:
            answer(outcome)
            break
        attempt += 1
        yield Pause(delay_s)
    target.finish()
