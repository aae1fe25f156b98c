"""Puts aside what a clip has come to, while work on it goes on."""

import asyncio

from cluster.logs import get_logger
from deployments.artifacts.latents import KeptWork
from deployments.errors import ArtifactStoreError
from deployments.jobs.claims import Claim, Claims
from deployments.jobs.insist import ask_database, ask_store
from deployments.jobs.retries import RetrySettings
from model.types import Latents, SamplerState

logger = get_logger(__name__)


class Keeper:
    """Keeps the work of one claim in the background.

    Latents are stored first, then noted in the job's row. Of the sampler's states the newest is
    kept; one that comes while another is written replaces those that wait.

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
        self._state: SamplerState | None = None
        self._states: asyncio.Task[None] | None = None

    @property
    def has_latents(self) -> bool:
        """Whether there was anything to keep."""
        return self._task is not None

    def keep(self, latents: Latents) -> None:
        """Begins to put latents aside."""
        self._task = asyncio.create_task(self._keep(latents), name="latents")

    def keep_state(self, state: SamplerState) -> None:
        """Puts the sampler's state aside, unless the store is away: latents matter, it may not."""
        self._state = state
        if self._states is None or self._states.done():
            self._states = asyncio.create_task(self._keep_states(), name="sampler_state")

    async def finish(self) -> None:
        """Returns when all is kept, or at once if there is nothing.

        Raises:
            ArtifactStoreError: They could not be stored.
            LeaseLostError: The job is no longer the claim's.
        """
        if self._states is not None:
            await asyncio.wait({self._states})
        if self._task is not None:
            await asyncio.shield(self._task)

    async def close(self) -> None:
        """Tries no more: nothing is being written when it returns."""
        self._over.set()
        self._state = None
        if self._states is not None:
            await asyncio.wait({self._states})
        if self._task is not None:
            await asyncio.wait({self._task})
            self._task.exception()  # heard by whoever called `finish`, if anybody

    async def _keep_states(self) -> None:
        while (state := self._state) is not None:
            self._state = None
            try:
                await asyncio.to_thread(self._kept.write_state, self._claim.job_id, state)
            except ArtifactStoreError as error:
                logger.warning("sampler_state_not_kept", error=str(error))

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
