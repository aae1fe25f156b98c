"""By what names a job is found again, in every process that works on it."""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

REQUEST_ID_HEADER = "x-request-id"
_TRACEPARENT_HEADER = "traceparent"
# Version 00 of https://www.w3.org/TR/trace-context/#traceparent-header
_TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
# Longer ones are the caller's affair; Serve echoes them whole.
_MAX_REQUEST_ID = 128


@dataclass(frozen=True, slots=True)
class JobIds:
    """Travels with the work from process to process.

    Args:
        job_id: Ours.
        request_id: The `x-request-id` of the HTTP request that asked for it.
        traceparent: The span that the work belongs to, as a W3C header; first the caller's, then
            that of the job's own trace.
        attempt: Counts from 1; a later one has a name of its own in the gang, which may still be
            busy with the earlier one.
    """

    job_id: str
    request_id: str = ""
    traceparent: str = ""
    attempt: int = 1

    @property
    def work_id(self) -> str:
        """Names one attempt, for cancelling it."""
        return self.job_id if self.attempt == 1 else f"{self.job_id}-{self.attempt}"

    def log_fields(self) -> dict[str, str]:
        """What every line about the job carries."""
        _, _, rest = self.traceparent.partition("-")
        trace_id, _, _ = rest.partition("-")
        fields = {"job_id": self.job_id, "request_id": self.request_id, "trace_id": trace_id}
        return {name: value for name, value in fields.items() if value}


def new_job_ids(headers: Mapping[str, str]) -> JobIds:
    """Names for the job that an HTTP request asks for.

    Args:
        headers: Of the request, with lower-case names; Serve sees to the `x-request-id`.
    """
    traceparent = headers.get(_TRACEPARENT_HEADER, "")
    return JobIds(
        f"video_{uuid.uuid4().hex}",
        request_id_of(headers),
        traceparent if _TRACEPARENT.fullmatch(traceparent) else "",
    )


def request_id_of(headers: Mapping[str, str]) -> str:
    """The id of an HTTP request, bounded."""
    return headers.get(REQUEST_ID_HEADER, "")[:_MAX_REQUEST_ID]
