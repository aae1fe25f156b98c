"""One file from a hub to a disk, from where an earlier attempt stopped.

huggingface_hub resumes within one process, but removes what has arrived when that process ends; a
pull of these sizes outlives pods.
"""

import os
import time
from pathlib import Path

import httpx

from lingbot_serve.errors import HubError, HubUnreachableError
from lingbot_serve.models.hub import Location, RemoteFile

PARTIAL_SUFFIX = ".incomplete"
_TIMEOUT_S = 30.0
# Without one new byte between them.
_MAX_ATTEMPTS = 6
_LONGEST_PAUSE_S = 30.0


def new_client() -> httpx.Client:
    """Connections that downloads share, from any thread."""
    return httpx.Client(timeout=_TIMEOUT_S, follow_redirects=True)


def download(
    client: httpx.Client,
    location: Location,
    file: RemoteFile,
    target: Path,
    *,
    first_pause_s: float = 1.0,
) -> None:
    """Brings a file to where it belongs, whole or not at all.

    Args:
        client: From `new_client`.
        location: Where to get it.
        file: Its size, and what names its content.
        target: Where it belongs; what has arrived of it waits beside.
        first_pause_s: Before the second attempt; each later pause is twice as long.

    Raises:
        HubError: The hub refused.
        HubUnreachableError: The connection broke again and again; what has arrived is kept.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    content = file.sha256 or file.git_sha1
    # Named by content: nothing else may be appended to it.
    partial = target.with_name(f"{target.name}.{(content or 'unnamed')[:16]}{PARTIAL_SUFFIX}")
    if content is None:
        partial.unlink(missing_ok=True)
    attempts = 0
    while _size(partial) < file.size or not partial.exists():
        before = _size(partial)
        try:
            _transfer(client, location, file, partial)
        except httpx.TransportError as error:
            attempts = 1 if _size(partial) > before else attempts + 1
            if attempts >= _MAX_ATTEMPTS:
                raise HubUnreachableError(
                    f"{file.path}: the connection breaks ({error}); run the same command again, "
                    f"it goes on after {_size(partial)} of {file.size} bytes"
                ) from error
            time.sleep(min(first_pause_s * 2 ** (attempts - 1), _LONGEST_PAUSE_S))
    os.replace(partial, target)


def _transfer(client: httpx.Client, location: Location, file: RemoteFile, partial: Path) -> None:
    have = _size(partial)
    headers = {**location.headers, "accept-encoding": "identity"}
    if have:
        headers["range"] = f"bytes={have}-"
    with client.stream("GET", location.url, headers=headers) as answer:
        _check(answer, file)
        goes_on = answer.status_code == httpx.codes.PARTIAL_CONTENT
        with partial.open("ab" if goes_on else "wb") as output:
            # As they come: chunks of a size of ours would hold back what arrives before a break.
            for chunk in answer.iter_raw():
                output.write(chunk)
    if _size(partial) > file.size:
        partial.unlink()
        raise HubError(f"{file.path}: the hub sends more than the {file.size} bytes that it lists")


def _check(answer: httpx.Response, file: RemoteFile) -> None:
    """Raises for what another attempt would not change; the rest is like a broken connection."""
    if answer.status_code in (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.REQUEST_TIMEOUT):
        raise httpx.RemoteProtocolError(f"status {answer.status_code}")
    if answer.is_server_error:
        raise httpx.RemoteProtocolError(f"status {answer.status_code}")
    if answer.is_error:
        raise HubError(f"{file.path}: the hub refuses it with status {answer.status_code}")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
