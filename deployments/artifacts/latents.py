"""What is kept of a job in mid-work, so that a finished stage is not done again."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load, save

from deployments.artifacts.requests import metadata
from deployments.artifacts.store import ArtifactStore
from model.types import DenoiserFacts, Latents, SamplerState

_LATENTS, _STATE = "latents.safetensors", "sampler.safetensors"
_MADE_BY = "made_by"
_SAMPLE, _COUNTERS = "sample", "counters"


class KeptWork:
    """The newest state of a job's sampler, then its final latents, until its video is stored.

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

    def write_state(self, job_id: str, state: SamplerState) -> None:
        """Keeps the state of a job's sampler, in place of an earlier one.

        Raises:
            ArtifactStoreError: The store does not take it.
        """
        counters = json.dumps({"index": state.index, **state.counters}).encode()
        arrays: dict[str, npt.NDArray[Any]] = {
            **{name: np.ascontiguousarray(array) for name, array in state.history.items()},
            _SAMPLE: np.ascontiguousarray(state.sample),
            _COUNTERS: np.frombuffer(counters, np.uint8),
        }
        self._artifacts.put(job_id, _STATE, save(arrays))

    def read_state(self, job_id: str) -> SamplerState | None:
        """What `write_state` kept last; None if there is nothing.

        Raises:
            ArtifactStoreError: The store does not answer.
        """
        content = self._artifacts.read(job_id, _STATE)
        if content is None:
            return None
        arrays = load(content)
        counters = json.loads(arrays.pop(_COUNTERS).tobytes())
        return SamplerState(counters.pop("index"), arrays.pop(_SAMPLE), arrays, counters)

    def drop(self, job_id: str) -> None:
        """Removes all of it.

        Raises:
            ArtifactStoreError: The store does not answer.
        """
        for name in (_LATENTS, _STATE):
            self._artifacts.remove(job_id, name)
