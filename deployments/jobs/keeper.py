"""Puts a job's final latents aside while they are decoded."""

import asyncio

from deployments.artifacts.latents import KeptWork
from deployments.jobs.claims import Claim, Claims
from deployments.jobs.insist import ask_database, ask_store
from deployments.jobs.retries import RetrySettings
from model.types import Latents


class Keeper:
    """Keeps the latents of one claim in the background: stored first, then noted in the job's row.

    Args:
        kept: Where they go.
        claims: Of this gateway.
        claim: On the job.
        settings: How persistent to be.
    """

    def __init__(
        self, kept: KeptWork, claims: Claims, claim: Claim, settings: RetrySettings
    ) -> None:
        self._kept = kept
        self._claims = claims
        self._claim = claim
        self._settings = settings
        self._over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def has_latents(self) -> bool:
        """Whether there was anything to keep."""
        return self._task is not None

    def keep(self, latents: Latents) -> None:
        """Begins to put latents aside."""
        self._task = asyncio.create_task(self._keep(latents), name="latents")

    async def finish(self) -> None:
        """Returns when the latents are kept, or at once if there are none.

        Raises:
            ArtifactStoreError: They could not be stored.
            LeaseLostError: The job is no longer the claim's.
        """
        if self._task is not None:
            await asyncio.shield(self._task)

    async def close(self) -> None:
        """Tries no more: nothing is being written when it returns."""
        self._over.set()
        if self._task is not None:
            await asyncio.wait({self._task})
            self._task.exception()  # heard by whoever called `finish`, if anybody

    async def _keep(self, latents: Latents) -> None:
        await ask_store(
            self._kept.write_latents,
            self._claim.job_id,
            latents,
            settings=self._settings,
            patience_s=self._settings.store_patience_s,
            over=self._over,
        )
        await ask_database(self._claims.note_latents, self._claim, over=self._over)
