"""The DAG of one request: encoders side by side, then the gang, then the decoder.

The pipeline also knows all work, what it holds and what gateways tell it, and reports it to the
policy of `deployments.stage_policy`: of all stages it alone always runs.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from structlog.contextvars import bind_contextvars

from autoscaling.followers import FollowerSettings
from autoscaling.policy import GangSettings
from autoscaling.work import ClipWork, Ledger, StepTimes
from cluster.logs import LogConfig
from deployments.attempts import Attempts
from deployments.calls import Handle, ask, blame, stream
from deployments.deadlines import paced
from deployments.denoise_call import denoise
from deployments.encode_call import Encoders, Encodings, finish
from deployments.logs import configure_replica_logging
from deployments.messages import (
    ClipSettings,
    DecodedVideo,
    GenerateRequest,
    Stage,
    StageEvent,
    StageState,
    VideoResult,
)
from deployments.names import PIPELINE
from deployments.orphans import this_actor
from deployments.record import Origin, record_of
from deployments.stage_clock import StageClock
from deployments.startup import announce
from deployments.timeouts import StageTimeouts
from deployments.transfers import note_latents, note_video
from model.types import DenoiserFacts, Latents, SamplerState, Step

Item = StageEvent | SamplerState | Latents | VideoResult


_TIMEOUTS = StageTimeouts()


class Pipeline:
    """Composes the stages; of tensors it keeps but the latents of the last few clips.

    Args:
        text_encoder: Handle of the stage.
        image_encoder: Handle of the stage; None where the checkpoint has no image branch.
        vae_encoder: Handle of the stage.
        denoiser: Handle of the gangs.
        vae_decoder: Handle of the stage.
        gpus_per_gang: GPUs of a gang, for predicting what clips cost.
        timeouts: How long the stages may take.
        checkpoint_every_steps: How often a denoise can be gone on with; 0: never.
        logs: How the replica writes its log.
        origin: What makes its videos, for their records; None: no records.
    """

    def __init__(
        self,
        text_encoder: Handle,
        image_encoder: Handle | None,
        vae_encoder: Handle,
        denoiser: Handle,
        vae_decoder: Handle,
        gpus_per_gang: int,
        logs: LogConfig,
        timeouts: StageTimeouts = _TIMEOUTS,
        checkpoint_every_steps: int = 0,
        origin: Origin | None = None,
    ) -> None:
        configure_replica_logging(logs, PIPELINE)
        self._origin = origin
        self._encoders = Encoders(text_encoder, image_encoder, vae_encoder)
        self._denoiser = denoiser
        self._vae_decoder = vae_decoder
        self._timeouts = timeouts
        self._checkpoint_every_steps = checkpoint_every_steps
        self._ledger = Ledger(StepTimes(gpus_per_gang))
        self._gangs: GangSettings | None = None
        self._followers: dict[str, FollowerSettings] = {}
        self._attempts = Attempts()
        self._name = this_actor()
        announce(PIPELINE)

    def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Takes the policy's knobs; Serve calls it with them in mid-work, and nothing restarts.

        Args:
            user_config: Fields of `GangSettings` under "gangs", and of `FollowerSettings` by
                stage under "followers".
        """
        self._gangs = GangSettings(**user_config["gangs"])
        followers = user_config["followers"]
        self._followers = {stage: FollowerSettings(**each) for stage, each in followers.items()}

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What the policy hears; Serve asks for it where stages scale."""
        if self._gangs is None:
            return {}
        return self._ledger.report(time.time(), self._gangs, self._followers).as_stats()

    async def tell_queue(self, clips: tuple[ClipWork, ...]) -> None:
        """Notes what waits before the stages, in its order; it replaces what was told before.

        Args:
            clips: What was not handed over yet.
        """
        self._ledger.tell_queue(clips, time.time())

    async def hear_of(self, job_id: str, newest: Step | Latents | None) -> bool:
        """Takes what a gang makes for a pipeline that is gone; a later attempt at the job gets it.

        Returns:
            Whether the gang should go on with it.
        """
        return self._attempts.hear(job_id, newest)

    async def end(self, job_id: str) -> None:
        """Stops the denoise of a job that nobody wants any more, whoever asked for it."""
        self._attempts.end(job_id)

    async def num_tokens(self, prompt: str) -> int:
        """Tokens of a prompt, as the text encoder counts them."""
        count: int = await ask(self._encoders.text.num_tokens, prompt)
        return count

    async def denoiser_facts(self) -> DenoiserFacts:
        """What a gang chose at its start; waits for a place beside one."""
        facts: DenoiserFacts = await ask(self._denoiser.facts)
        return facts

    async def generate(
        self, request: GenerateRequest, resume: SamplerState | None = None
    ) -> AsyncGenerator[Item, None]:
        """Makes one clip.

        Args:
            request: Checked and complete.
            resume: The newest that an earlier attempt yielded.

        Yields:
            A `StageEvent` at each start, step and end of a stage, a `SamplerState` every
            `checkpoint_every_steps`, the final `Latents` before they are decoded, and the
            `VideoResult` last.

        Raises:
            GangError: The ranks were lost.
            StageError: A stage was lost or did not answer in time.
        """
        bind_contextvars(**request.ids.log_fields())
        latents: Latents | None = None
        self._ledger.admit(request.ids.work_id, request.work)
        try:
            async with aclosing(self._make_latents(request, resume)) as items:
                async for item in items:
                    if isinstance(item, Latents):
                        latents = item
                        note_latents(latents)
                    yield item
        finally:
            self._ledger.end(request.ids.work_id)
        assert latents is not None, "the gang ended a clip without its latents"
        async with aclosing(self._decode(request, latents)) as decoded:
            async for decoded_item in decoded:
                yield decoded_item

    async def decode(
        self, request: GenerateRequest, latents: Latents
    ) -> AsyncGenerator[Item, None]:
        """Finishes a clip that was denoised before; encoders and gangs hear nothing of it.

        Args:
            request: As it was for `generate`.
            latents: What that yielded.

        Yields:
            A `StageEvent` at the decoder's start, steps and end, and the `VideoResult` last.

        Raises:
            StageError: The decoder was lost or did not answer in time.
        """
        bind_contextvars(**request.ids.log_fields())
        async with aclosing(self._decode(request, latents)) as items:
            async for item in items:
                yield item

    async def _make_latents(
        self, request: GenerateRequest, resume: SamplerState | None
    ) -> AsyncGenerator[StageEvent | SamplerState | Latents, None]:
        encodings = self._encoders.encode(request)
        async with aclosing(finish(encodings, self._timeouts)) as events:
            async for event in events:
                yield event
        async with aclosing(self._denoise(request, encodings, resume)) as items:
            async for item in items:
                yield item

    async def _denoise(
        self, request: GenerateRequest, encodings: Encodings, resume: SamplerState | None
    ) -> AsyncGenerator[StageEvent | SamplerState | Latents, None]:
        clock = StageClock(Stage.DENOISER)
        total = request.sampler.num_inference_steps
        yield clock.event(StageState.STARTED, 0, total)
        settings = ClipSettings(
            request.ids,
            request.camera,
            request.shape,
            request.sampler,
            request.seed,
            sent_s=time.time(),
            resume=resume,
            state_every=self._checkpoint_every_steps,
            caller=self._name,
        )
        denoised = denoise(
            self._denoiser.denoise,
            settings,
            encodings.prompt,
            encodings.negative_prompt,
            encodings.first_frame,
            encodings.image,
            timeouts=self._timeouts.denoiser,
        )
        ids = request.ids
        once = self._attempts.once(ids.job_id, denoised, attempt=ids.attempt)
        async with aclosing(once) as items:
            async for item in items:
                if isinstance(item, Step):
                    self._ledger.step(request.ids.work_id, item.index, time.time())
                    yield clock.event(StageState.STEP, item.index, item.total)
                else:
                    yield item
        yield clock.event(StageState.FINISHED, total, total)

    async def _decode(
        self, request: GenerateRequest, latents: Latents
    ) -> AsyncGenerator[Item, None]:
        clock = StageClock(Stage.VAE_DECODER)
        total = request.shape.latent_frames
        yield clock.event(StageState.STARTED, 0, total)
        sent_s = time.time()
        decoded = stream(self._vae_decoder.decode, latents, request.return_tensors)
        on_time = paced(decoded, lambda _: self._timeouts.vae_decoder_s, clock.stage.value)
        with blame(clock.stage.value):
            async with aclosing(on_time) as items:
                async for item in items:
                    if isinstance(item, Step):
                        yield clock.event(StageState.STEP, item.index, item.total)
                    else:
                        assert isinstance(item, DecodedVideo)
                        note_video(item, sent_s)
                        yield clock.event(StageState.FINISHED, total, total)
                        yield VideoResult(
                            item.mp4,
                            latents.values if request.return_tensors else None,
                            item.frames,
                            item.stills,
                            request.shape.seconds,
                            await self._record(request, latents),
                        )

    async def _record(self, request: GenerateRequest, latents: Latents) -> Mapping[str, Any]:
        if self._origin is None:
            return {}
        # In a thread: it hashes a picture that may be large.
        return await asyncio.to_thread(record_of, request, self._origin, latents.made_by)
