"""What is kept of a job in mid-work, so that a finished stage is not done again."""

import json
from dataclasses import asdict

import numpy as np
from safetensors.numpy import load, save

from deployments.artifacts.requests import metadata
from deployments.artifacts.store import ArtifactStore
from model.types import DenoiserFacts, Latents

_LATENTS = "latents.safetensors"
_MADE_BY = "made_by"


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
        facts = None if latents.made_by is None else asdict(latents.made_by)
        arrays = {"latents": np.ascontiguousarray(latents.values)}
        content = save(arrays, metadata={_MADE_BY: json.dumps(facts)})
        self._artifacts.put(job_id, _LATENTS, content)

    def read_latents(self, job_id: str) -> Latents | None:
        """What `write_latents` kept; None if there is nothing.

        Raises:
            ArtifactStoreError: The store does not answer.
        """
        content = self._artifacts.read(job_id, _LATENTS)
        if content is None:
            return None
        facts = json.loads(metadata(content)[_MADE_BY])
        made_by = None if facts is None else DenoiserFacts(**facts)
        return Latents(load(content)["latents"], made_by)

    def drop_latents(self, job_id: str) -> None:
        """Removes a job's latents.

        Raises:
            ArtifactStoreError: The store does not answer.
        """
        self._artifacts.remove(job_id, _LATENTS)
