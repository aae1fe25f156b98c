"""What is kept of a job in mid-work, so that a finished stage is not done again."""

import numpy as np
from safetensors.numpy import load, save

from deployments.artifacts.store import ArtifactStore
from model.types import Latents

_LATENTS = "latents.safetensors"


class KeptWork:
    """Final latents from the end of a job's denoising until its video is stored.

    Of all attempts alike: the same inputs and seed make the same latents.

    Args:
        artifacts: Where they lie, in the job's folder.
    """

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts

    def write_latents(self, job_id: str, latents: Latents) -> None:
        """Keeps a job's final latents.

        Raises:
            ArtifactStoreError: The store does not take them.
        """
        content = save({"latents": np.ascontiguousarray(latents.values)})
        self._artifacts.put(job_id, _LATENTS, content)

    def read_latents(self, job_id: str) -> Latents | None:
        """What `write_latents` kept; None if there is nothing.

        Raises:
            ArtifactStoreError: The store does not answer.
        """
        content = self._artifacts.read(job_id, _LATENTS)
        return None if content is None else Latents(load(content)["latents"])

    def drop_latents(self, job_id: str) -> None:
        """Removes a job's latents.

        Raises:
            ArtifactStoreError: The store does not answer.
        """
        self._artifacts.remove(job_id, _LATENTS)
