"""From the server's replies to values and errors."""

import httpx

from lingbot_serve.client.retries import retry_after_s
from lingbot_serve.client.video import Video
from lingbot_serve.errors import (
    ApiError,
    AuthenticationError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    ServerUnreachableError,
)

_KINDS: dict[int, type[ApiError]] = {
    400: InvalidRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    410: NotFoundError,
    413: InvalidRequestError,
    415: InvalidRequestError,
    422: InvalidRequestError,
    429: RateLimitError,
}


def answer(outcome: httpx.Response | httpx.TransportError) -> httpx.Response:
    """The reply, if it is one to go on with.

    Raises:
        ApiError: The server refused.
        ServerUnreachableError: There was no reply.
    """
    if isinstance(outcome, httpx.TransportError):
        raise unreachable(outcome) from outcome
    if outcome.is_error:
        raise api_error(outcome)
    return outcome


def video_of(response: httpx.Response) -> Video:
    """The video that a reply describes.

    Raises:
        ApiError: It describes none; something else than the server may have answered.
    """
    try:
        return Video.model_validate_json(response.content)
    except ValueError as error:
        raise _foreign(response) from error


def unreachable(error: httpx.TransportError) -> ServerUnreachableError:
    """Says whom nobody reached, and why."""
    url = error.request.url
    address = f"{url.scheme}://{url.netloc.decode()}"
    return ServerUnreachableError(f"no answer from {address}: {error or type(error).__name__}")


def api_error(response: httpx.Response) -> ApiError:
    """Reads OpenAI's error shape; a proxy in between may have answered with something else."""
    try:
        error = response.json()["error"]
        message, param, code = str(error["message"]), error.get("param"), error.get("code")
    except (ValueError, KeyError, TypeError, AttributeError):
        return _foreign(response)
    return _kind(response)(
        response.status_code,
        message,
        param=param,
        code=code,
        request_id=response.headers.get("x-request-id"),
        retry_after_s=retry_after_s(response.headers),
    )


def _kind(response: httpx.Response) -> type[ApiError]:
    return ServerError if response.is_server_error else _KINDS.get(response.status_code, ApiError)


def _foreign(response: httpx.Response) -> ApiError:
    text = response.text.strip()[:200] or response.reason_phrase
    return _kind(response)(
        response.status_code,
        f"HTTP {response.status_code}: {text}",
        request_id=response.headers.get("x-request-id"),
        retry_after_s=retry_after_s(response.headers),
    )
