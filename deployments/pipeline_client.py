"""The gateway's view of the other application."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from autoscaling.work import ClipWork
from deployments.calls import Handle, ask, blame, stream
from deployments.errors import PipelineUnavailableError
from deployments.messages import GenerateRequest, Stage, StageEvent, VideoResult
from deployments.names import PIPELINE
from model.types import DenoiserFacts, Latents, SamplerState

Item = StageEvent | SamplerState | Latents | VideoResult

_POLL_S = 0.5
# Of Serve's ApplicationStatus, DeploymentStatus and ReplicaState, which are strings.
_RUNNING = "RUNNING"
_SERVING = ("HEALTHY", "UPSCALING", "DOWNSCALING")


class PipelineClient:
    """Finds the pipeline when it is there and says so when it is not.

    Args:
        application: Name of the application that makes the clips.
        timeout_s: Longest wait for a short answer.
    """

    def __init__(self, application: str, *, timeout_s: float) -> None:
        self._application = application
        self._timeout_s = timeout_s
        self._handle: Handle | None = None
        self._facts: tuple[float, DenoiserFacts] | None = None
        self._asking: asyncio.Task[None] | None = None

    async def generate(
        self, request: GenerateRequest, resume: SamplerState | None = None
    ) -> AsyncGenerator[Item, None]:
        """Streams one clip; closing the stream cancels the work on the gang.

        Args:
            request: Checked and complete.
            resume: The newest that an earlier attempt streamed.

        Raises:
            PipelineUnavailableError: There is no pipeline.
            StageError: A stage was lost or did not answer in time.
        """
        handle = await self._pipeline()
        async for item in _stream(handle.generate, request, resume):
            yield item

    async def decode(
        self, request: GenerateRequest, latents: Latents
    ) -> AsyncGenerator[Item, None]:
        """Streams a clip whose latents are there already.

        Raises:
            PipelineUnavailableError: There is no pipeline.
            StageError: A stage was lost or did not answer in time.
        """
        handle = await self._pipeline()
        async for item in _stream(handle.decode, request, latents):
            yield item

    async def deployed_at(self) -> float:
        """Unix time since which the stages are configured as they are; 0 if nobody knows."""
        with contextlib.suppress(RayError, RayServeException):
            status = await asyncio.to_thread(serve.status)
            if (application := status.applications.get(self._application)) is not None:
                return application.last_deployed_time_s
        return 0.0

    async def num_tokens(self, prompt: str) -> int:
        """Tokens of a prompt, as the text encoder counts them.

        Raises:
            PipelineUnavailableError: No answer in time.
        """
        handle = await self._pipeline()
        try:
            count: int = await asyncio.wait_for(_answer(handle.num_tokens, prompt), self._timeout_s)
        except (asyncio.TimeoutError, RayError) as error:
            raise PipelineUnavailableError("the text encoder does not answer yet") from error
        return count

    async def tell_queue(self, clips: tuple[ClipWork, ...]) -> None:
        """Tells the pipeline what waits here, in its order.

        Raises:
            PipelineUnavailableError: No answer in time.
        """
        handle = await self._pipeline()
        try:
            told = _answer(handle.tell_queue, clips)
            await asyncio.wait_for(told, self._timeout_s)
        except (asyncio.TimeoutError, RayError, RayServeException) as error:
            raise PipelineUnavailableError("the pipeline does not answer") from error

    async def num_gangs(self) -> int:
        """Gangs that run, as Serve counts them; 0 without a pipeline."""
        status = await asyncio.to_thread(serve.status)
        application = status.applications.get(self._application)
        if application is None or Stage.DENOISER not in application.deployments:
            return 0
        states = application.deployments[Stage.DENOISER].replica_states
        return sum(number for state, number in states.items() if state == _RUNNING)

    async def deployed(self) -> None:
        """Returns once there is a pipeline to talk to, however long that takes."""
        while True:
            try:
                await self._pipeline()
                return
            except PipelineUnavailableError:
                await asyncio.sleep(_POLL_S)

    async def not_ready(self) -> list[str]:
        """Why the pipeline cannot serve; empty when it can."""
        status = await asyncio.to_thread(serve.status)
        application = status.applications.get(self._application)
        if application is None:
            return ["the pipeline is not deployed"]
        reasons = [
            f"{name}: {deployment.status.value.lower()} {deployment.message}".strip()
            for name, deployment in application.deployments.items()
            if deployment.status not in _SERVING
        ]
        if application.status != _RUNNING and not reasons:
            state = application.status.value.lower()
            reasons = [f"pipeline: {state} {application.message}".strip()]
        return reasons

    async def denoiser_facts(self) -> DenoiserFacts | None:
        """What the gangs chose at their start, as far as is known; never waits for one.

        Asked once per deployment of the pipeline, in the background, and only while there is a
        gang: a question waits for a place beside one as a clip does, and would wake up a first.
        """
        status = await asyncio.to_thread(serve.status)
        application = status.applications.get(self._application)
        if application is None:
            return None
        deployed_s = application.last_deployed_time_s
        if self._facts is not None and self._facts[0] == deployed_s:
            return self._facts[1]
        states = application.deployments[Stage.DENOISER.value].replica_states
        has_gang = any(state == _RUNNING and number for state, number in states.items())
        if has_gang and (self._asking is None or self._asking.done()):
            self._asking = asyncio.create_task(self._ask_facts(deployed_s))
        return None

    async def _ask_facts(self, deployed_s: float) -> None:
        # What is not answered now is asked again when somebody wants to know.
        with contextlib.suppress(asyncio.TimeoutError, RayError, PipelineUnavailableError):
            handle = await self._pipeline()
            answer = ask(handle.denoiser_facts)
            facts: DenoiserFacts = await asyncio.wait_for(answer, self._timeout_s)
            self._facts = deployed_s, facts

    async def _pipeline(self) -> Handle:
        if self._handle is None:
            try:
                self._handle = await asyncio.to_thread(serve.get_app_handle, self._application)
            except RayServeException as error:
                raise PipelineUnavailableError("the pipeline is not deployed") from error
        return self._handle


async def _stream(method: Handle, *args: object) -> AsyncGenerator[Item, None]:
    with blame(PIPELINE):
        async with aclosing(stream(method, *args)) as items:
            async for item in items:
                yield item


async def _answer(method: Handle, *args: object) -> Any:
    return await ask(method, *args)
