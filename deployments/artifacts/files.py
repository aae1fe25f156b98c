"""What is known of a stored result: enough to answer for it without asking the store."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

VIDEO, THUMBNAIL, LAST_FRAME, TENSORS = "video", "thumbnail", "last_frame", "tensors"


@dataclass(frozen=True, slots=True)
class Variant:
    """One kind of result.

    Args:
        filename: Of its object, and of what clients save.
        media_type: Of its content.
    """

    filename: str
    media_type: str


VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {
        VIDEO: Variant("video.mp4", "video/mp4"),
        THUMBNAIL: Variant("thumbnail.webp", "image/webp"),
        LAST_FRAME: Variant("last_frame.png", "image/png"),
        TENSORS: Variant("tensors.safetensors", "application/octet-stream"),
    }
)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One result of one job.

    Args:
        name: Of its object; it carries the attempt that made it.
        num_bytes: Its size.
        sha256: Of its content, hexadecimal.
        media_type: Of its content.
        seconds: How long it plays; None of what does not.
    """

    name: str
    num_bytes: int
    sha256: str
    media_type: str
    seconds: float | None = None

    @classmethod
    def of(
        cls, name: str, data: bytes, media_type: str, seconds: float | None = None
    ) -> "StoredFile":
        """What there is to know of some content."""
        return cls(name, len(data), hashlib.sha256(data).hexdigest(), media_type, seconds)

    @classmethod
    def of_row(cls, entry: dict[str, Any]) -> "StoredFile":
        """What `as_row` wrote."""
        size, digest, kind = entry["bytes"], entry["sha256"], entry["media_type"]
        return cls(entry["name"], size, digest, kind, entry.get("seconds"))

    def as_row(self) -> dict[str, Any]:
        """As a job's row keeps it."""
        return {
            "name": self.name,
            "bytes": self.num_bytes,
            "sha256": self.sha256,
            "media_type": self.media_type,
            "seconds": self.seconds,
        }
