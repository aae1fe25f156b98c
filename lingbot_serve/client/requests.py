"""Every request that the client makes, and to whom."""

import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

import httpx

from lingbot_serve.client.inputs import VideoForm
from lingbot_serve.client.video import Order

BASE_URL_VARIABLE = "LINGBOT_BASE_URL"
API_KEY_VARIABLE = "LINGBOT_API_KEY"
DEFAULT_BASE_URL = "http://127.0.0.1:8000"
MAX_PAGE = 100

_VIDEOS = "/v1/videos"


@dataclass(frozen=True, slots=True)
class Server:
    """Where the server is, and how it knows the caller.

    Args:
        base_url: Address of the gateway.
        headers: Sent with every request.
    """

    base_url: str
    headers: Mapping[str, str]

    @classmethod
    def find(cls, base_url: str | None, api_key: str | None, origin: str) -> "Server":
        """What the arguments leave out is taken from the environment.

        Args:
            base_url: With or without `/v1`.
            api_key: Sent as a bearer token; none is sent where there is none.
            origin: Under what the server counts the jobs.
        """
        url = base_url or os.environ.get(BASE_URL_VARIABLE) or DEFAULT_BASE_URL
        key = api_key or os.environ.get(API_KEY_VARIABLE)
        headers = {"x-lingbot-origin": origin}
        if key:
            headers["authorization"] = f"Bearer {key}"
        return cls(url.rstrip("/").removesuffix("/v1"), headers)

    @property
    def trust_env(self) -> bool:
        """A proxy of the environment is for the outside; this machine is not behind it."""
        host = httpx.URL(self.base_url).host
        try:
            return not ip_address(host).is_loopback
        except ValueError:
            return host != "localhost"


class Requests:
    """Builds requests and sends none.

    Args:
        build: `build_request` of the httpx client that will send them.
    """

    def __init__(self, build: Callable[..., httpx.Request]) -> None:
        self._build = build

    def create(self, form: VideoForm, key: str | None, *, path: str = _VIDEOS) -> httpx.Request:
        """Asks for a video; the same request may be sent again and makes no second one."""
        headers = {"idempotency-key": key or uuid.uuid4().hex}
        return self._build("POST", path, data=form.fields, files=form.files, headers=headers)

    def create_and_wait(self, form: VideoForm, key: str | None) -> httpx.Request:
        """Asks for a video, which will be the reply."""
        request = self.create(form, key, path=f"{_VIDEOS}/sync")
        request.headers["accept-encoding"] = "identity"
        return request

    def retrieve(self, video_id: str) -> httpx.Request:
        return self._build("GET", f"{_VIDEOS}/{video_id}")

    def page(self, after: str | None, limit: int, order: Order) -> httpx.Request:
        params = {"limit": limit, "order": order} | ({"after": after} if after else {})
        return self._build("GET", _VIDEOS, params=params)

    def cancel(self, video_id: str) -> httpx.Request:
        headers = {"idempotency-key": uuid.uuid4().hex}
        return self._build("POST", f"{_VIDEOS}/{video_id}/cancel", headers=headers)

    def delete(self, video_id: str) -> httpx.Request:
        return self._build("DELETE", f"{_VIDEOS}/{video_id}")

    def events(self, video_id: str, last_event_id: str) -> httpx.Request:
        headers = {"accept": "text/event-stream", "cache-control": "no-store"}
        if last_event_id:
            headers["last-event-id"] = last_event_id
        return self._build("GET", f"{_VIDEOS}/{video_id}/events", headers=headers)

    def content(self, video_id: str, variant: str, headers: Mapping[str, str]) -> httpx.Request:
        url = f"{_VIDEOS}/{video_id}/content"
        return self._build("GET", url, params={"variant": variant}, headers=headers)
