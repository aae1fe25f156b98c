"""What an endpoint gets: a small JSON body, and the three headers of Standard Webhooks."""

import json
import math
import secrets
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone

from standardwebhooks import Webhook

from deployments.webhooks.tables import VIDEO_COMPLETED

_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Event:
    """The end of one video.

    Args:
        id: The same at every attempt.
        event_type: One of `EVENT_TYPES`.
        video_id: Which video.
        error_code: Why it failed.
        created_at: Unix time of the end.
    """

    id: str
    event_type: str
    video_id: str
    error_code: str | None
    created_at: float

    def body(self) -> bytes:
        """The event in OpenAI's shape, byte for byte the same at every attempt."""
        completed = self.event_type == VIDEO_COMPLETED
        data: dict[str, object] = {
            "id": self.video_id,
            "status": "completed" if completed else "failed",
        }
        if self.error_code is not None:
            data["error"] = {"code": self.error_code}
        event = {
            "id": self.id,
            "object": "event",
            "type": self.event_type,
            "created_at": math.floor(self.created_at),
            "timestamp": datetime.fromtimestamp(self.created_at, timezone.utc).isoformat(),
            "data": data,
        }
        return json.dumps(event, separators=(",", ":")).encode()


def new_signing_secret() -> str:
    """Draws a secret in the form that receivers' libraries take."""
    return f"whsec_{b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}"


def signed_headers(event_id: str, body: bytes, secrets: Iterable[str]) -> dict[str, str]:
    """The headers of one attempt, signed now.

    Args:
        event_id: Of the event.
        body: What is sent, to the byte.
        secrets: One signature each.
    """
    now = datetime.now(timezone.utc)
    signatures = [Webhook(secret).sign(event_id, now, body.decode()) for secret in secrets]
    return {
        "content-type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(math.floor(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
