"""A small typed client of `/v1/videos`."""

import mimetypes
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field

from lingbot_serve.errors import ApiError, ServerUnreachableError, VideoFailedError
from model.types import Solver

Status = Literal["queued", "in_progress", "completed", "failed"]
Variant = Literal["video", "tensors"]

POLL_AFTER_HEADER = "openai-poll-after-ms"
DEFAULT_POLL_S = 1.0
POLL_BOUNDS_S = (0.1, 5.0)
MAX_POLL_FAILURES = 5
CHUNK_BYTES = 1 << 20


class VideoError(BaseModel):
    """Why a video failed."""

    code: str
    message: str


class Video(BaseModel):
    """One video as the server describes it; fields of newer servers are ignored."""

    model_config = ConfigDict(frozen=True)

    id: str
    status: Status
    progress: int = 0
    size: str = ""
    seconds: str = ""
    seed: int | None = None
    num_frames: int | None = None
    stage: str | None = None
    step: int | None = None
    total_steps: int | None = None
    stage_durations: Mapping[str, float] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    error: VideoError | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing about it will change any more."""
        return self.status in ("completed", "failed")


@dataclass(frozen=True, slots=True)
class CameraFiles:
    """The camera path as it is uploaded.

    Args:
        poses: `.npy` of camera-to-world matrices [N, 4, 4].
        intrinsics: `.npy` of fx, fy, cx, cy rows [N, 4].
    """

    poses: Path
    intrinsics: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoOptions:
    """Fields of `POST /v1/videos` under the API's names; None leaves one to the server."""

    negative_prompt: str | None = None
    size: str | None = None
    num_frames: int | None = None
    num_inference_steps: int | None = None
    sampler: Solver | None = None
    flow_shift: float | None = None
    guidance_scale: float | None = None
    guidance_scale_2: float | None = None
    boundary_ratio: float | None = None
    seed: int | None = None
    return_tensors: bool | None = None

    def form_fields(self) -> dict[str, str]:
        """Those that are set, as a form spells them."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: _form_value(value) for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class VideoRequest:
    """One clip to ask for.

    Args:
        prompt: What to show.
        image: File of the first frame: PNG, JPEG or WebP.
        camera: Where the camera goes.
        options: Everything else.
    """

    prompt: str
    image: Path
    camera: CameraFiles | None = None
    options: VideoOptions = VideoOptions()


class VideoClient:
    """Talks to one server; use it as a context manager.

    Args:
        base_url: Address of the gateway, without `/v1`.
        timeout_s: Longest wait for one answer.
        origin: Under what the server counts the jobs; it knows "client" and "canary".
    """

    def __init__(self, base_url: str, *, timeout_s: float = 60.0, origin: str = "client") -> None:
        # A proxy of the environment is for the outside; this machine is not behind it.
        trust_env = not _is_loopback(httpx.URL(base_url).host)
        headers = {"x-lingbot-origin": origin}
        self._http = httpx.Client(
            base_url=base_url, timeout=timeout_s, trust_env=trust_env, headers=headers
        )

    def __enter__(self) -> "VideoClient":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def create(self, request: VideoRequest) -> Video:
        """Hands a request in.

        Raises:
            ApiError: The server refused it; `param` names the field.
            ServerUnreachableError: It did not answer.
        """
        return Video.model_validate(self._post("/v1/videos", request).json())

    def make(self, request: VideoRequest, path: Path) -> Video:
        """Hands a request in, waits for it in the same call, and writes the video to a file.

        Raises:
            ApiError: The server refused it, or the video failed.
            ServerUnreachableError: It did not answer within the client's `timeout_s`.
        """
        response = self._post("/v1/videos/sync", request)
        path.write_bytes(response.content)
        return self.retrieve(response.headers["x-video-id"])

    def retrieve(self, video_id: str) -> Video:
        """How a video stands."""
        return Video.model_validate(self._send("GET", f"/v1/videos/{video_id}").json())

    def watch(self, video_id: str) -> Iterator[Video]:
        """Yields the video again and again, at the server's pace, until it is over.

        Raises:
            ServerUnreachableError: Several polls in a row went unanswered.
        """
        while True:
            response = self._poll(video_id)
            video = Video.model_validate(response.json())
            yield video
            if video.is_over:
                return
            time.sleep(_poll_delay_s(response))

    def wait(self, video_id: str) -> Video:
        """Returns the video once it is completed.

        Raises:
            VideoFailedError: It failed.
        """
        *_, video = self.watch(video_id)
        return require_completed(video)

    def download(self, video_id: str, path: Path, *, variant: Variant = "video") -> None:
        """Writes a finished video, or its tensors, to a file; a broken download leaves none."""
        partial = path.with_name(f"{path.name}.partial")
        url = f"/v1/videos/{video_id}/content"
        try:
            with self._http.stream("GET", url, params={"variant": variant}) as response:
                if response.is_error:
                    response.read()
                    raise _api_error(response)
                with partial.open("wb") as file:
                    for chunk in response.iter_bytes(CHUNK_BYTES):
                        file.write(chunk)
        except httpx.TransportError as error:
            partial.unlink(missing_ok=True)
            raise self._unreachable(error) from error
        partial.replace(path)

    def delete(self, video_id: str) -> None:
        """Removes a video; a running one is stopped."""
        self._send("DELETE", f"/v1/videos/{video_id}")

    def _poll(self, video_id: str) -> httpx.Response:
        for attempt in range(MAX_POLL_FAILURES):
            try:
                return self._send("GET", f"/v1/videos/{video_id}")
            except ServerUnreachableError:
                time.sleep(DEFAULT_POLL_S * 2**attempt / 2)
        return self._send("GET", f"/v1/videos/{video_id}")

    def _post(self, path: str, request: VideoRequest) -> httpx.Response:
        files = {"input_reference": _upload(request.image)}
        if request.camera is not None:
            files["poses"] = _upload(request.camera.poses)
            files["intrinsics"] = _upload(request.camera.intrinsics)
        data = {"prompt": request.prompt, **request.options.form_fields()}
        return self._send("POST", path, data=data, files=files)

    def _send(
        self,
        method: str,
        path: str,
        *,
        data: Mapping[str, str] | None = None,
        files: Mapping[str, tuple[str, bytes, str]] | None = None,
    ) -> httpx.Response:
        try:
            response = self._http.request(method, path, data=data, files=files)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if response.is_error:
            raise _api_error(response)
        return response

    def _unreachable(self, error: httpx.TransportError) -> ServerUnreachableError:
        reason = str(error) or type(error).__name__
        return ServerUnreachableError(f"no answer from {self._http.base_url}: {reason}")


def require_completed(video: Video) -> Video:
    """Returns the video if it completed.

    Raises:
        VideoFailedError: It failed.
    """
    if video.status == "completed":
        return video
    error = video.error or VideoError(code="unknown", message=f"the video is {video.status}")
    raise VideoFailedError(error.code, error.message)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _upload(path: Path) -> tuple[str, bytes, str]:
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return path.name, path.read_bytes(), media_type


def _form_value(value: str | int | float | bool | Solver) -> str:
    if isinstance(value, Solver):
        return value.value
    return str(value).lower() if isinstance(value, bool) else str(value)


def _poll_delay_s(response: httpx.Response) -> float:
    wished = response.headers.get(POLL_AFTER_HEADER, "")
    delay_s = int(wished) / 1000 if wished.isdigit() else DEFAULT_POLL_S
    low, high = POLL_BOUNDS_S
    return min(max(delay_s, low), high)


def _api_error(response: httpx.Response) -> ApiError:
    """Reads OpenAI's error shape; a proxy in between may have answered with something else."""
    try:
        error = response.json()["error"]
        return ApiError(
            response.status_code,
            str(error["message"]),
            param=error.get("param"),
            code=error.get("code"),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        text = response.text.strip()[:200] or response.reason_phrase
        return ApiError(response.status_code, f"HTTP {response.status_code}: {text}")
