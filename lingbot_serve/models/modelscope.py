"""ModelScope, by the two addresses of its HTTP interface that a download needs."""

import os
from urllib.parse import quote, urlencode

import httpx
from pydantic import BaseModel, Field, ValidationError

from lingbot_serve.errors import HubError, HubUnreachableError
from lingbot_serve.models.hub import Location, RemoteFile, Snapshot, Source

_ADDRESS = "https://www.modelscope.cn"
_BRANCH = "master"
_TIMEOUT_S = 30.0


class _Entry(BaseModel):
    path: str = Field(alias="Path")
    kind: str = Field(alias="Type")
    size: int = Field(alias="Size", default=0)
    sha256: str | None = Field(alias="Sha256", default=None)


class _Files(BaseModel):
    files: list[_Entry] = Field(alias="Files")


class _Answer(BaseModel):
    data: _Files = Field(alias="Data")


class ModelScopeHub:
    """ModelScope; MODELSCOPE_API_TOKEN is sent for what is not public.

    Args:
        endpoint: Address of a mirror; None means the real one.
    """

    def __init__(self, endpoint: str | None = None) -> None:
        self._endpoint = (endpoint or _ADDRESS).rstrip("/")
        token = os.environ.get("MODELSCOPE_API_TOKEN")
        self._headers = {"authorization": f"Bearer {token}"} if token else {}

    def snapshot(self, repo: str, revision: str | None) -> Snapshot:
        revision = revision or _BRANCH
        url = self._url(repo, "repo/files", Revision=revision, Recursive="True")
        try:
            answer = httpx.get(
                url, headers=self._headers, timeout=_TIMEOUT_S, follow_redirects=True
            )
        except httpx.TransportError as error:
            raise HubUnreachableError(f"ModelScope does not answer: {error}") from error
        if answer.status_code in (401, 403, 404):
            raise HubError(
                f"ModelScope has no repository {repo} with a revision {revision}, or it is "
                "private: check the name, or set MODELSCOPE_API_TOKEN"
            )
        try:
            listed = _Answer.model_validate_json(answer.raise_for_status().content).data.files
        except (httpx.HTTPStatusError, ValidationError) as error:
            raise HubUnreachableError(f"ModelScope gives no list of {repo}: {error}") from error
        files = tuple(RemoteFile(f.path, f.size, f.sha256) for f in listed if f.kind == "blob")
        return Snapshot(Source.MODELSCOPE, repo, revision, files)

    def location(self, snapshot: Snapshot, file: RemoteFile) -> Location:
        url = self._url(snapshot.repo, "repo", Revision=snapshot.revision, FilePath=file.path)
        return Location(url, self._headers)

    def _url(self, repo: str, what: str, **parameters: str) -> str:
        return f"{self._endpoint}/api/v1/models/{quote(repo)}/{what}?{urlencode(parameters)}"
