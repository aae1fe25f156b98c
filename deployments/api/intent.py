"""Reads off a request whether it was sent before."""

import hashlib
import json
import re
from collections.abc import Mapping

from deployments.api.create_body import CreateBody
from deployments.jobs.repeats import Intent
from model.errors import InvalidInputError

IDEMPOTENCY_HEADER = "idempotency-key"
# Set on an answer that tells of a job which an earlier request made.
REPLAYED_HEADER = "idempotency-replayed"
# The stock OpenAI clients count their retries here, and send no key of their own.
RETRY_COUNT_HEADER = "x-stainless-retry-count"
_KEY = re.compile(r"[!-~]{1,255}")


def intent_of(headers: Mapping[str, str], body: CreateBody) -> Intent:
    """What a request says of its repetition.

    Args:
        headers: Of the request, with lower-case names.
        body: The request.

    Raises:
        InvalidInputError: The key is too long or has characters beyond visible ASCII.
    """
    key = headers.get(IDEMPOTENCY_HEADER)
    if key is not None and not _KEY.fullmatch(key):
        raise InvalidInputError("Idempotency-Key", "must be 1 to 255 visible ASCII characters")
    retries = headers.get(RETRY_COUNT_HEADER, "0")
    is_retry = retries.isdecimal() and retries.strip("0") != ""
    return Intent(key, request_hash(body), is_retry=is_retry)


def request_hash(body: CreateBody) -> str:
    """SHA-256 of all that was asked for; a default that is sent and one left out are the same."""
    asked = {
        "fields": body.fields.model_dump(mode="json", exclude_none=True),
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in body.files.items()},
    }
    canonical = json.dumps(asked, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
