"""A hub of weights on this machine: it speaks both hubs' addresses, and fails on demand."""

import hashlib
import json
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "c" * 40
_CHUNK_BYTES = 1 << 14


class LocalHub:
    """One repository and what goes wrong with it.

    Args:
        repo: `owner/name`.
        files: Content by path; those that end in `.safetensors` or `.pth` are in LFS.
    """

    def __init__(self, repo: str, files: Mapping[str, bytes]) -> None:
        self.repo = repo
        self.files = dict(files)
        # Bytes of a body after which the connection is cut, one for each request to come.
        self.cuts: dict[str, list[int]] = defaultdict(list)
        # Answers instead of files, one for each request to come.
        self.statuses: dict[str, list[int]] = defaultdict(list)
        # What is sent instead of the content, one for each request to come.
        self.wrong: dict[str, list[bytes]] = defaultdict(list)
        # Bodies stop in the middle until it is set.
        self.go_on = threading.Event()
        self.go_on.set()
        self.stopped = threading.Event()
        # Sizes that the listing gives instead of the true ones.
        self.sizes: dict[str, int] = {}
        self.bytes_sent: Counter[str] = Counter()
        # From which byte on each request asked for a file.
        self.starts: dict[str, list[int]] = defaultdict(list)
        self.url = ""

    def listing(self, path: str) -> bytes | None:
        """The answer to a request for metadata; None where it is none."""
        if path in (f"/api/models/{self.repo}/revision/{rev}" for rev in ("main", COMMIT)) or (
            path == f"/api/models/{self.repo}"
        ):
            siblings = [
                {**_sibling(name, content), "size": self.sizes.get(name, len(content))}
                for name, content in self.files.items()
            ]
            return json.dumps({"id": self.repo, "sha": COMMIT, "siblings": siblings}).encode()
        if path == f"/api/v1/models/{self.repo}/repo/files":
            listed = [_blob(name, content) for name, content in self.files.items()]
            tree = {"Path": "folder", "Type": "tree", "Size": 0}
            return json.dumps({"Code": 200, "Data": {"Files": [tree, *listed]}}).encode()
        return None

    def file_of(self, url: str) -> str | None:
        """The file that a request is for."""
        parts = urlsplit(url)
        path, prefix = unquote(parts.path), f"/{self.repo}/resolve/{COMMIT}/"
        if parts.path == f"/api/v1/models/{self.repo}/repo":
            path = prefix + parse_qs(parts.query)["FilePath"][0]
        name = path.removeprefix(prefix)
        return name if path.startswith(prefix) and name in self.files else None


@contextmanager
def serving(hub: LocalHub) -> Iterator[LocalHub]:
    """Serves a hub on a port of its own; its address is then in `hub.url`."""

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        hub.go_on.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: LocalHub

    def do_GET(self) -> None:
        if listing := self.hub.listing(unquote(urlsplit(self.path).path)):
            self._head(200, {"content-length": len(listing), "content-type": "application/json"})
            self.wfile.write(listing)
        elif name := self.hub.file_of(self.path):
            with suppress(ConnectionError):  # of a client that was killed
                self._send_file(name)
        else:
            self._head(404, {"content-length": 0, "x-error-code": "RepoNotFound"})

    def _send_file(self, name: str) -> None:
        hub = self.hub
        if hub.statuses[name]:
            self._head(hub.statuses[name].pop(0), {"content-length": 0})
            return
        hub.starts[name].append(start := self._start())
        content = hub.wrong[name].pop(0) if hub.wrong[name] else hub.files[name]
        body = content[start:]
        headers: dict[str, object] = {"content-length": len(body)}
        if start:
            headers["content-range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._head(206 if start else 200, headers)
        cut = hub.cuts[name].pop(0) if hub.cuts[name] else len(body)
        for offset in range(0, min(cut, len(body)), _CHUNK_BYTES):
            self._wait_at_half(offset, len(body))
            chunk = body[offset : min(offset + _CHUNK_BYTES, cut)]
            hub.bytes_sent[name] += len(chunk)  # before: whoever has read it may look at once
            self.wfile.write(chunk)
        self.close_connection = True

    def _start(self) -> int:
        return int((self.headers["range"] or "bytes=0-").removeprefix("bytes=").rstrip("-"))

    def _wait_at_half(self, offset: int, size: int) -> None:
        if offset >= size // 2 and not self.hub.go_on.is_set():
            self.wfile.flush()
            self.hub.stopped.set()
            self.hub.go_on.wait(30)

    def _head(self, status: int, headers: Mapping[str, object]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def _sibling(name: str, content: bytes) -> dict[str, object]:
    sibling: dict[str, object] = {"rfilename": name}
    if name.endswith((".safetensors", ".pth")):
        sha256 = hashlib.sha256(content).hexdigest()
        return {
            **sibling,
            "blobId": "0" * 40,
            "lfs": {"sha256": sha256, "size": len(content), "pointerSize": 130},
        }
    git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return {**sibling, "blobId": git}


def _blob(name: str, content: bytes) -> dict[str, object]:
    sha256 = hashlib.sha256(content).hexdigest()
    return {"Path": name, "Type": "blob", "Size": len(content), "Sha256": sha256}
