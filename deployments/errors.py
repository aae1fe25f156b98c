"""What can go wrong between a client and the gateway, on top of `model.errors`.

LingBotError
├── StageError                    our fault: a stage did not do its part of a clip
│   ├── StageDiedError            its process is gone
│   ├── StageTimeoutError         it did not answer in time
│   └── StageOutOfMemoryError     its memory ran out
├── LoopEndedError                our fault: work in the background has stopped
└── GatewayError
    ├── UnauthenticatedError      no API key, or one that is worth nothing
    ├── PermissionDeniedError     the API key is not for this
    ├── QuotaExceededError        the API key has used up what it may
    ├── JobNotFoundError          no such video
    ├── WebhookNotFoundError      no such webhook endpoint
    ├── DeliveryNotFoundError     the endpoint has no such delivery
    ├── EndpointDisabledError     the endpoint wants nothing more
    ├── ContentNotReadyError      the video is not finished, or failed
    ├── VariantNotFoundError      this video has no such variant
    ├── BodyTooLargeError         the request body exceeds the limit
    ├── BodyTooSlowError          the request body does not come in time
    ├── MediaTypeError            neither JSON nor multipart
    ├── IdempotencyMismatchError  a key was sent again, with another request
    ├── RepeatedError             another request has made the job meanwhile
    ├── QueueFullError            too many jobs wait
    │   └── WaitTooLongError      one more job would wait too long
    ├── TooManyStreamsError       as many event streams are open as may be
    ├── DrainingError             the gateway finishes its jobs and takes no more
    ├── PipelineUnavailableError  the stages do not answer yet
    ├── OutboundRefusedError      an address that a user named may not be called
    ├── OutboundFailedError       it may be called, and gave no proper answer
    ├── LeaseLostError            a job was taken from the gateway that worked on it
    ├── ArtifactStoreError        the store of the files does not answer
    │   └── ArtifactMissingError  it has no such file
    ├── ContentExpiredError       the video's files were kept as long as they are kept
    └── JobFailedError            a job that a client waited for has failed
"""

from typing import ClassVar

from model.errors import LingBotError


class StageError(LingBotError):
    """A stage failed a clip that another attempt may well make.

    Args:
        stage: Its name.
        problem: What happened, after the name.
    """

    code: ClassVar[str] = "stage_died"

    def __init__(self, stage: str, problem: str) -> None:
        super().__init__(stage, problem)
        self.stage = stage
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.stage} {self.problem}"


class StageDiedError(StageError):
    """The process of a stage, or what it had made, is gone."""


class StageTimeoutError(StageError):
    """A stage did not answer within its `timeout_s`."""

    code = "stage_timeout"


class StageOutOfMemoryError(StageError):
    """A stage's memory did not suffice for the clip."""

    code = "out_of_memory"


class LoopEndedError(LingBotError):
    """A loop that should run as long as its process has ended; the process is to be replaced."""


class GatewayError(LingBotError):
    """Base of the gateway's own refusals.

    Attributes:
        retry_after_s: When it is worth to ask again, in seconds from now; None where nobody knows.
    """

    retry_after_s: float | None = None


class UnauthenticatedError(GatewayError):
    """The request carries no API key, or one that is unknown, expired or revoked."""


class PermissionDeniedError(GatewayError):
    """The API key is not for this."""


class QuotaExceededError(GatewayError):
    """The API key has used up one of its quotas.

    Args:
        problem: Which one.
        retry_after_s: When there is room again.
    """

    def __init__(self, problem: str, *, retry_after_s: float) -> None:
        super().__init__(problem)
        self.retry_after_s = retry_after_s


class JobNotFoundError(GatewayError):
    """No video has this id."""


class WebhookNotFoundError(GatewayError):
    """No webhook endpoint has this id."""


class DeliveryNotFoundError(GatewayError):
    """No delivery to this endpoint has this id."""


class EndpointDisabledError(GatewayError):
    """The endpoint has answered that it wants nothing more."""


class ContentNotReadyError(GatewayError):
    """The video has no content, or not yet."""


class VariantNotFoundError(GatewayError):
    """The video was made without this variant."""


class BodyTooLargeError(GatewayError):
    """The request body exceeds the configured limit."""


class BodyTooSlowError(GatewayError):
    """The request body takes longer than the configured limit."""


class MediaTypeError(GatewayError):
    """The request body is neither JSON nor multipart."""


class IdempotencyMismatchError(GatewayError):
    """An `Idempotency-Key` was used before, for a request that asked for something else."""


class RepeatedError(GatewayError):
    """Another request with the same `Idempotency-Key` was quicker; never reaches a client."""


class QueueFullError(GatewayError):
    """As many jobs wait as may wait.

    Args:
        problem: The public message.
        retry_after_s: When it is worth to ask again, in seconds from now.
    """

    def __init__(self, problem: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(problem)
        self.retry_after_s = retry_after_s


class WaitTooLongError(QueueFullError):
    """One more job would wait longer than jobs are to wait."""


class TooManyStreamsError(GatewayError):
    """As many event streams are open as may be."""


class DrainingError(GatewayError):
    """The gateway is about to stop and takes no new jobs."""


class PipelineUnavailableError(GatewayError):
    """The stages do not answer."""


class OutboundRefusedError(GatewayError):
    """An address that a user named is not one that the server may call."""


class OutboundFailedError(GatewayError):
    """A host that a user named gave no proper answer."""


class LeaseLostError(GatewayError):
    """A job was cancelled, deleted or given to another gateway while this one worked on it."""


class ArtifactStoreError(GatewayError):
    """The store of the files does not answer, or does not take them."""


class ArtifactMissingError(ArtifactStoreError):
    """The store has no file of this name."""


class ContentExpiredError(GatewayError):
    """The files of this video have expired."""


class JobFailedError(GatewayError):
    """A job ended without a video.

    Args:
        code: The job's error code.
        problem: Its public message.
    """

    def __init__(self, code: str, problem: str) -> None:
        super().__init__(code, problem)
        self.code = code
        self.problem = problem

    def __str__(self) -> str:
        return self.problem
