"""Hugging Face: its library lists, names and authorises; `download` transfers."""

from huggingface_hub import HfApi, get_token, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoSibling

from lingbot_serve.errors import HubError, HubUnreachableError
from lingbot_serve.models.hub import Location, RemoteFile, Snapshot, Source
from model.errors import LingBotError


class HuggingFaceHub:
    """Hugging Face or a mirror of it; the library reads HF_TOKEN for what is not public.

    Args:
        endpoint: Address of a mirror; None means HF_ENDPOINT or the real one.
    """

    def __init__(self, endpoint: str | None = None) -> None:
        self._endpoint = endpoint

    def snapshot(self, repo: str, revision: str | None) -> Snapshot:
        api = HfApi(endpoint=self._endpoint)
        try:
            info = api.model_info(repo, revision=revision, files_metadata=True)
        except Exception as error:  # of whichever HTTP library its version uses
            raise _translated(error, repo, revision) from error
        files = tuple(map(_remote_file, info.siblings or ()))
        return Snapshot(Source.HUGGING_FACE, repo, info.sha or revision or "main", files)

    def location(self, snapshot: Snapshot, file: RemoteFile) -> Location:
        url = hf_hub_url(
            snapshot.repo, file.path, revision=snapshot.revision, endpoint=self._endpoint
        )
        token = get_token()
        return Location(url, {"authorization": f"Bearer {token}"} if token else {})


def _remote_file(sibling: RepoSibling) -> RemoteFile:
    sha256 = None if sibling.lfs is None else sibling.lfs.sha256
    # Git's id of a file in LFS is that of its pointer.
    git_sha1 = sibling.blob_id if sha256 is None else None
    return RemoteFile(sibling.rfilename, sibling.size or 0, sha256, git_sha1)


def _translated(error: Exception, repo: str, revision: str | None) -> LingBotError:
    if isinstance(error, GatedRepoError):
        return HubError(
            f"{repo} asks for consent: accept its terms on the hub's page and set HF_TOKEN"
        )
    if isinstance(error, (RepositoryNotFoundError, HFValidationError)):
        return HubError(
            f"Hugging Face has no repository {repo}, or it is private: "
            "check the name, or set HF_TOKEN"
        )
    if isinstance(error, RevisionNotFoundError):
        return HubError(f"{repo} has no revision {revision}")
    return HubUnreachableError(f"Hugging Face does not answer: {error}")
