"""The denoiser stage: one replica owns one gang, and imports no torch itself."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from cluster.config import GangConfig
from cluster.gang import Gang
from cluster.logs import LogConfig, get_logger
from cluster.metrics import observe, set_gauge
from cluster.placement import RankPlace
from cluster.program import ProgramFactory
from deployments.errors import StageError
from deployments.logs import configure_replica_logging
from deployments.loops import Loop
from deployments.messages import ClipSettings, Stage
from deployments.orphans import Orphans, actor_lives, tell_pipeline
from deployments.startup import announce
from deployments.transfers import note_encodings
from model.types import (
    DenoiseRequest,
    DenoiserFacts,
    FirstFrame,
    ImageEmbeds,
    Latents,
    SamplerState,
    Step,
    TextEmbeds,
)
from monitoring.labels import clip_size
from monitoring.stages import DENOISER_INFO, STEP_SECONDS

logger = get_logger(__name__)

# How soon a clip whose pipeline died is known to be nobody's.
_LOOK_S = 1.0


class DenoiserStage:
    """One gang: it works on one clip while the next waits beside it.

    Args:
        config: What the gang is made of.
        factory: Builds the denoiser on each rank.
        logs: How this process and the ranks write their log.
    """

    # Serve awaits it; the type checker knows no such constructor.
    async def __init__(  # type: ignore[misc]
        self, config: GangConfig, factory: ProgramFactory, logs: LogConfig
    ) -> None:
        configure_replica_logging(logs, Stage.DENOISER.value)
        announce(Stage.DENOISER.value)
        self._gang = await Gang.start(config, factory, name=_replica_number, logs=logs)
        self._orphans = Orphans(actor_lives, tell_pipeline, self._gang.cancel)
        self._looking = Loop("orphans", self._look)
        self._looking.start()
        _publish(self._facts())

    async def denoise(
        self,
        settings: ClipSettings,
        prompt: TextEmbeds,
        negative_prompt: TextEmbeds,
        first_frame: FirstFrame,
        image: ImageEmbeds | None,
    ) -> AsyncGenerator[Step | SamplerState | Latents, None]:
        """Denoises a clip; a caller that leaves stops the gang at its next step.

        One whose process dies does not: see `deployments.orphans`.

        Args:
            settings: Shape, camera, sampler and seed.
            prompt: What to show.
            negative_prompt: What not to show.
            first_frame: Latent condition.
            image: CLIP features where the checkpoint takes them.

        Yields:
            A `Step` of what was done before when the clip leaves the gang's queue, one after each
            solver step, `SamplerState`s where they are asked for, then the `Latents`.

        Raises:
            GangError: The ranks were lost and the gang restarts itself; or, before the first item,
                it does so already and another gang should be asked.
        """
        self._gang.check_takes_jobs()
        note_encodings(settings, (prompt, negative_prompt), first_frame, image)
        request = DenoiseRequest(
            prompt=prompt,
            negative_prompt=negative_prompt,
            first_frame=first_frame,
            image=image,
            camera=settings.camera,
            shape=settings.shape,
            sampler=settings.sampler,
            seed=settings.seed,
            resume=settings.resume,
            state_every=settings.state_every,
        )
        run = self._run(settings, request)
        async with aclosing(self._orphans.hold(settings.ids, settings.caller, run)) as items:
            async for item in items:
                yield item

    async def _run(
        self, settings: ClipSettings, request: DenoiseRequest
    ) -> AsyncGenerator[Step | SamplerState | Latents, None]:
        clock = _StepClock(clip_size(settings.shape.num_tokens))
        ids = settings.ids
        done = 0 if settings.resume is None else settings.resume.index
        begun = Step(done, settings.sampler.num_inference_steps)
        run = self._gang.run(ids.work_id, request, log_fields=ids.log_fields(), begun=begun)
        async with aclosing(run) as items:
            async for item in items:
                assert isinstance(item, (Step, SamplerState, Latents))
                if item is not begun and not isinstance(item, SamplerState):
                    clock.tick(item)
                yield replace(item, made_by=self._facts()) if isinstance(item, Latents) else item

    async def facts(self) -> DenoiserFacts:
        """What the gang chose at its start."""
        return self._facts()

    def _facts(self) -> DenoiserFacts:
        facts = self._gang.facts
        assert isinstance(facts, DenoiserFacts)
        return replace(facts, start_s=self._gang.start_s)

    async def places(self) -> tuple[RankPlace, ...]:
        """Where the present ranks live, in rank order."""
        return self._gang.places

    def check_health(self) -> None:
        """Raises when the gang has to be replaced as a whole."""
        self._gang.check_health()
        self._looking.check()

    async def _look(self) -> None:
        await asyncio.sleep(_LOOK_S)
        try:
            await self._orphans.look()
        except (StageError, RayError, RayServeException) as error:
            logger.debug("pipeline_not_told", error=type(error).__name__)


class _StepClock:
    """Times the steps of one clip but the first, before which it waits and is prepared."""

    def __init__(self, size: str) -> None:
        self._size = size
        self._last_s: float | None = None

    def tick(self, item: Step | Latents) -> None:
        now_s = time.perf_counter()
        if isinstance(item, Step) and self._last_s is not None:
            observe(STEP_SECONDS, now_s - self._last_s, size=self._size)
        self._last_s = now_s


def _publish(facts: DenoiserFacts) -> None:
    set_gauge(
        DENOISER_INFO,
        1,
        attention=facts.attention,
        sharding=facts.sharding,
        cfg_parallel=str(facts.cfg_parallel).lower(),
        compiled=str(facts.compiled).lower(),
        dtype=facts.dtype,
        ranks=str(facts.ranks),
    )


def _replica_number() -> str:
    """Serve's number of this replica: below the number of replicas, and used again after it."""
    return str(serve.get_replica_context().rank.rank)
