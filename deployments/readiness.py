"""Waiting for a service that starts, with the reasons why it is not ready yet."""

import time
from collections.abc import Callable

import httpx
from ray import serve

from model.errors import LingBotError

_POLL_S = 0.2
_ANSWER_S = 10.0


class StartupError(LingBotError):
    """The service did not become ready; the message says which part and why."""


def wait_until_ready(
    url: str,
    *,
    on_wait: Callable[[list[str]], None] = lambda reasons: None,
    timeout_s: float = 600.0,
) -> None:
    """Returns once the service behind a gateway can make clips.

    Args:
        url: Address of the gateway.
        on_wait: Called about five times a second with what is not ready yet.
        timeout_s: Longest wait.

    Raises:
        StartupError: A deployment failed, or the time is over.
    """
    deadline_s = time.monotonic() + timeout_s
    while reasons := _not_ready(url):
        _raise_if_failed()
        if time.monotonic() > deadline_s:
            raise StartupError(f"not ready after {timeout_s:g} s: {'; '.join(reasons)}")
        on_wait(reasons)
        time.sleep(_POLL_S)


def _not_ready(url: str) -> list[str]:
    try:
        response = httpx.get(f"{url}/readyz", timeout=_ANSWER_S, trust_env=False)
    except httpx.TransportError:
        return ["gateway: not listening yet"]
    if response.status_code == 200:
        return []
    try:
        return list(response.json()["reasons"])
    except (ValueError, KeyError):
        return ["gateway: starting"]


def _raise_if_failed() -> None:
    for name, application in serve.status().applications.items():
        if application.status == "DEPLOY_FAILED":
            reasons = [
                f"{deployment}: {status.message}"
                for deployment, status in application.deployments.items()
                if status.status != "HEALTHY" and status.message
            ]
            text = "\n".join(reasons) or application.message
            raise StartupError(f"{name} failed to start: {text}")
