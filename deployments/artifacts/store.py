"""Files of each job: its inputs until it has run, its results after."""

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save

from deployments.artifacts.files import (
    LAST_FRAME,
    TENSORS,
    THUMBNAIL,
    VARIANTS,
    VIDEO,
    StoredFile,
)
from deployments.artifacts.objects import Objects
from deployments.artifacts.requests import pack_request, unpack_request
from deployments.errors import ArtifactMissingError
from deployments.messages import GenerateRequest, VideoResult

_INPUTS = "inputs.safetensors"


class ArtifactStore:
    """A folder per job; in it a folder per attempt, as one that came too late may still write.

    Args:
        objects: Where the folders are.
        expire_after_s: How long results are kept; None: until they are deleted.
    """

    def __init__(self, objects: Objects, *, expire_after_s: float | None = None) -> None:
        self.objects = objects
        self._expire_after_s = expire_after_s

    def put(self, job_id: str, name: str, content: bytes) -> None:
        """Keeps a file of a job in mid-work, whole or not at all.

        Raises:
            ArtifactStoreError: The store does not take it.
        """
        self.objects.put(f"{job_id}/{name}", content)

    def read(self, job_id: str, name: str) -> bytes | None:
        """What `put` kept; None if there is nothing.

        Raises:
            ArtifactStoreError: The store does not answer.
        """
        try:
            return self.objects.get(f"{job_id}/{name}")
        except ArtifactMissingError:
            return None

    def remove(self, job_id: str, name: str) -> None:
        """Removes what `put` kept, if there is something.

        Raises:
            ArtifactStoreError: The store does not answer.
        """
        self.objects.delete([f"{job_id}/{name}"])

    def write_request(self, request: GenerateRequest) -> None:
        """Keeps a waiting job's inputs, so that neither memory nor a restart loses them.

        Raises:
            ArtifactStoreError: The store does not take them.
        """
        self.put(request.job_id, _INPUTS, pack_request(request))

    def read_request(self, job_id: str) -> GenerateRequest:
        """The inputs that `write_request` kept.

        Raises:
            ArtifactStoreError: The store does not answer, or has none.
        """
        return unpack_request(job_id, self.objects.get(f"{job_id}/{_INPUTS}"))

    def drop_request(self, job_id: str) -> None:
        """Removes a job's inputs."""
        self.remove(job_id, _INPUTS)

    def write_result(self, job_id: str, attempt: int, result: VideoResult) -> dict[str, Any]:
        """Stores the results of one attempt, each whole.

        Returns:
            Columns of the job's row: what they say, and nothing else, makes the files the job's.

        Raises:
            ArtifactStoreError: The store does not take them.
        """
        stored = {}
        for variant, data in _contents(result):
            kind = VARIANTS[variant]
            seconds = result.seconds if variant == VIDEO else None
            name = f"{job_id}/{attempt}/{kind.filename}"
            file = StoredFile.of(name, data, kind.media_type, seconds)
            filename = f"{job_id}-{kind.filename}"
            self.objects.put(file.name, data, media_type=kind.media_type, filename=filename)
            stored[variant] = file.as_row()
        keep_s = self._expire_after_s
        expires_at = None if keep_s is None else time.time() + keep_s
        return {"artifacts": stored, "expires_at": expires_at, "record": dict(result.record)}

    def delete(self, job_id: str) -> None:
        """Removes everything of a job.

        Raises:
            ArtifactStoreError: The store does not answer.
        """
        self.objects.delete_folder(job_id)


def _contents(result: VideoResult) -> Iterator[tuple[str, bytes]]:
    if result.latents is not None and result.frames is not None:
        tensors: dict[str, npt.NDArray[Any]] = {
            "latents": np.ascontiguousarray(result.latents),
            "frames": np.ascontiguousarray(result.frames),
        }
        yield TENSORS, save(tensors)
    if result.stills is not None:
        yield THUMBNAIL, result.stills.thumbnail
        yield LAST_FRAME, result.stills.last_frame
    yield VIDEO, result.mp4
