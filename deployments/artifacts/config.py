"""Where the files of jobs are kept, for how long, and how clients get them."""

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from deployments.settings import Settings

LOCAL_SCHEME = "file"
SCHEMES = (LOCAL_SCHEME, "s3", "gs", "az")

_DAY_S = 86_400.0
_WEEK_S = 7 * _DAY_S


class ArtifactSettings(Settings):
    """Files of jobs: inputs until a job has run, results after.

    Args:
        url: `file:///folder`, `s3://bucket/prefix`, `gs://bucket/prefix` or
            `az://account/container/prefix`; None means the gateway's `data_dir`. Credentials come
            from the environment or the instance's role, never from here.
        serve: Whether the gateway passes results on itself, or sends clients to a signed URL of
            the object store; the API's URL is the same.
        presign_expiry_s: How long such a URL works.
        expire_after_s: How long results are kept after a job ended; None: until it is deleted.
        forget_after_s: How long after its end a video without files, failed or expired, is still
            listed; None: until it is deleted.
        collect_interval_s: Time between two searches for files that nobody needs any more. Each
            lists all objects: on S3 one request for every thousand.
    """

    url: str | None = None
    serve: Literal["proxy", "redirect"] = "proxy"
    presign_expiry_s: float = Field(default=900.0, ge=1, le=_WEEK_S)
    expire_after_s: float | None = Field(default=None, gt=0)
    forget_after_s: float | None = Field(default=90 * _DAY_S, ge=_DAY_S)
    collect_interval_s: float = Field(default=3600.0, gt=0)

    @field_validator("url")
    @classmethod
    def _names_a_place_and_no_secret(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
            raise ValueError(f"must begin with one of {known}")
        # The value stays out of the message: it may be a secret.
        if parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError("takes no credentials; give them to the gateway's environment")
        if parts.scheme == LOCAL_SCHEME and (parts.netloc or not parts.path.startswith("/")):
            raise ValueError("must name an absolute folder, such as file:///var/lib/lingbot")
        if parts.scheme != LOCAL_SCHEME and not parts.netloc:
            raise ValueError(f"must name a bucket, such as {parts.scheme}://bucket/prefix")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _folders_sign_nothing(self) -> "ArtifactSettings":
        is_local = self.url is None or self.url.startswith(f"{LOCAL_SCHEME}:")
        if is_local and self.serve == "redirect":
            raise ValueError("serve: redirect needs an object store as url; a folder takes proxy")
        return self
