"""Where a request's first frame comes from: an upload, the body itself, or a fetched address."""

import base64

from deployments.api.create_body import CreateBody
from deployments.errors import OutboundFailedError, OutboundRefusedError
from deployments.gateway_config import Limits
from deployments.images.config import FetchConfig
from deployments.images.decode import IMAGE_FIELD
from deployments.images.decoder import ImageDecoder
from deployments.outbound import OutboundClient
from model.errors import InvalidInputError
from model.types import UInt8Array

_URL_FIELD = f"{IMAGE_FIELD}.image_url"
_DATA_PREFIX = "data:image/"
_WEB_PREFIXES = ("https://", "http://")
_CONTENT_TYPES = ("image/png", "image/jpeg", "image/webp")


class FirstFrames:
    """Reads the first frames of requests.

    Args:
        config: Whether addresses are fetched.
        limits: Of a file's bytes, those of a body, and of an image's pixels.
    """

    def __init__(self, config: FetchConfig, limits: Limits) -> None:
        self._outbound = OutboundClient(config) if config.enabled else None
        self._max_bytes = limits.max_body_bytes
        self._decoder = ImageDecoder(max_pixels=limits.max_image_pixels)

    async def read(self, body: CreateBody) -> UInt8Array:
        """The first frame, uint8 [H, W, 3].

        Raises:
            InvalidInputError: There is none, or it cannot be had or decoded.
        """
        upload, reference = body.files.get(IMAGE_FIELD), body.fields.input_reference
        if upload is not None:
            return await self._decoder.decode(upload)
        if reference is None:
            raise InvalidInputError(
                IMAGE_FIELD, 'is required; upload the first frame or send {"image_url": "data:…"}'
            )
        return await self._decoder.decode(await self._load(reference.image_url))

    def close(self) -> None:
        """Ends the decoder's processes."""
        self._decoder.close()

    async def _load(self, url: str) -> bytes:
        if not url.lower().startswith(_WEB_PREFIXES):
            return data_url_bytes(url)
        if self._outbound is None:
            raise InvalidInputError(
                _URL_FIELD,
                "names an address, and this server fetches no URLs; upload the file or send "
                "data:image/...;base64,...",
            )
        try:
            return await self._outbound.get(
                url, max_bytes=self._max_bytes, content_types=_CONTENT_TYPES
            )
        except (OutboundRefusedError, OutboundFailedError) as error:
            raise InvalidInputError(_URL_FIELD, str(error)) from error


def data_url_bytes(url: str) -> bytes:
    """Bytes of a `data:` URL.

    Raises:
        InvalidInputError: Another kind of URL, or no base64.
    """
    header, _, payload = url.partition(",")
    if not header.startswith(_DATA_PREFIX) or not header.endswith(";base64"):
        raise InvalidInputError(
            _URL_FIELD, "must be data:image/...;base64,...; files and folders have no URLs here"
        )
    try:
        return base64.b64decode(payload, validate=True)
    except ValueError as error:  # binascii.Error is one
        raise InvalidInputError(_URL_FIELD, "is not valid base64") from error
