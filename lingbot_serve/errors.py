"""What can go wrong on the client's side, on top of `model.errors`.

LingBotError
└── ClientError
    ├── ApiError                the server answered with an error
    │   ├── InvalidRequestError     400, 413, 415, 422: a field is wrong
    │   ├── AuthenticationError     401: no key, or not a valid one
    │   ├── PermissionDeniedError   403: the key may not do this
    │   ├── NotFoundError           404, 410: no such video, or not the key's
    │   ├── ConflictError           409: not as the video stands
    │   ├── RateLimitError          429: the queue is full or a quota is used up
    │   └── ServerError             5xx
    ├── ServerUnreachableError  the server did not answer
    ├── VideoFailedError        the video ended as failed
    ├── WaitTimeoutError        the video is not over yet
    ├── HubError                a hub of weights refuses, or has no such thing
    ├── HubUnreachableError     a hub does not answer; also a ServerUnreachableError
    ├── IntegrityError          a file's content is not what it should be
    └── DiskSpaceError          the weights do not fit
"""

from model.errors import LingBotError


class ClientError(LingBotError):
    """Base of what the client raises."""


class ApiError(ClientError):
    """The server refused a call.

    Args:
        status_code: HTTP status.
        message: What is wrong and what to do, as the server words it.
        param: Name of the request field at fault, if one is.
        code: Machine-readable kind, if the server names one.
        request_id: By which the server's log names the call.
        retry_after_s: Seconds after which the server wants to be asked again, if it says so.
    """

    def __init__(
        self,
        status_code: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(status_code, message, param, code)
        self.status_code = status_code
        self.message = message
        self.param = param
        self.code = code
        self.request_id = request_id
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        named = self.param is None or self.message.startswith(self.param)
        return self.message if named else f"{self.param}: {self.message}"

    @property
    def is_callers_fault(self) -> bool:
        """Whether the same request would be refused again."""
        return 400 <= self.status_code < 500 and self.status_code not in (408, 429)


class InvalidRequestError(ApiError):
    """A field is wrong, or the body too large; `param` names the field."""


class AuthenticationError(ApiError):
    """The server wants an API key, and this is not a valid one."""


class PermissionDeniedError(ApiError):
    """The API key may not do this."""


class NotFoundError(ApiError):
    """There is no such video, or it is another key's."""


class ConflictError(ApiError):
    """The call does not suit the state that the video is in."""


class RateLimitError(ApiError):
    """The queue is full or a quota is used up; `retry_after_s` says until when."""


class ServerError(ApiError):
    """The server failed on the call or takes none now; `request_id` finds it in its log."""


class ServerUnreachableError(ClientError):
    """No answer from the server."""


class VideoFailedError(ClientError):
    """The server accepted the request and could not finish it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"


class WaitTimeoutError(ClientError):
    """The video is not over after the time that the caller gave it; its job goes on."""


class HubError(ClientError):
    """A hub of weights has no such repository or revision, or refuses it."""


class HubUnreachableError(ServerUnreachableError):
    """A hub of weights does not answer, or its connections break."""


class IntegrityError(ClientError):
    """Files differ from their checksums; the message names them and the remedy."""


class DiskSpaceError(ClientError):
    """There is too little room for the weights."""
