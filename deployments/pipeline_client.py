"""The gateway's view of the other application."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any, TypeVar

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatusOverview, ServeStatus

from autoscaling.work import ClipWork
from deployments.calls import Handle, ask, blame, stream
from deployments.deadlines import paced
from deployments.errors import PipelineUnavailableError
from deployments.messages import GenerateRequest, Stage, StageEvent, VideoResult
from deployments.names import PIPELINE
from model.types import DenoiserFacts, Latents, SamplerState

Item = StageEvent | SamplerState | Latents | VideoResult
T = TypeVar("T")

_POLL_S = 0.5
# Serve's status holds the settings of every deployment, which Ray pickles anew for each answer.
_FRESH_S = 1.0
# For how long a pipeline that is away is still told of a job that was ended.
_END_PATIENCE_S = 60.0
_AWAY = (asyncio.TimeoutError, RayError, RayServeException)
# Of Serve's ApplicationStatus, DeploymentStatus and ReplicaState, which are strings.
_RUNNING = "RUNNING"
_SERVING = ("HEALTHY", "UPSCALING", "DOWNSCALING")
_SILENT_CONTROLLER = "Serve's controller does not answer"


class PipelineClient:
    """Finds the pipeline when it is there and says so when it is not.

    Args:
        application: Name of the application that makes the clips.
        timeout_s: Longest wait for a short answer.
        silence_s: Longest wait for a clip's next item.
    """

    def __init__(self, application: str, *, timeout_s: float, silence_s: float) -> None:
        self._application = application
        self._timeout_s = timeout_s
        self._silence_s = silence_s
        # Of its own: a question to a controller that is down may hang, and takes its thread along.
        self._threads = ThreadPoolExecutor(1, "serve-controller")
        self._status_asked: asyncio.Future[ServeStatus] | None = None
        self._asked_s = 0.0
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
        async with aclosing(self._stream(handle.generate, request, resume)) as items:
            async for item in items:
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
        async with aclosing(self._stream(handle.decode, request, latents)) as items:
            async for item in items:
                yield item

    async def end(self, job_id: str) -> None:
        """Stops what is denoised for a job, whoever asked for it; insists where nobody answers.

        Its own reader's leaving does so too. This is for readers at other gateways, which look
        only once a second, and for those that are dead.
        """
        by_s = asyncio.get_running_loop().time() + _END_PATIENCE_S
        while asyncio.get_running_loop().time() < by_s:
            with contextlib.suppress(PipelineUnavailableError):
                handle = await self._pipeline()
                await self._answer(handle.end, job_id)
                return
            await asyncio.sleep(_POLL_S)

    async def deployed_at(self) -> float:
        """Unix time since which the stages are configured as they are; 0 if nobody knows."""
        with contextlib.suppress(PipelineUnavailableError):
            if (application := await self._status()) is not None:
                return application.last_deployed_time_s
        return 0.0

    async def num_tokens(self, prompt: str) -> int:
        """Tokens of a prompt, as the text encoder counts them.

        Raises:
            PipelineUnavailableError: No answer in time.
        """
        handle = await self._pipeline()
        count: int = await self._answer(handle.num_tokens, prompt)
        return count

    async def tell_queue(self, clips: tuple[ClipWork, ...]) -> None:
        """Tells the pipeline what waits here, in its order.

        Raises:
            PipelineUnavailableError: No answer in time.
        """
        handle = await self._pipeline()
        await self._answer(handle.tell_queue, clips)

    async def num_gangs(self) -> int:
        """Gangs that run, as Serve counts them; 0 without a pipeline.

        Raises:
            PipelineUnavailableError: Serve's controller does not answer in time.
        """
        application = await self._status()
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
        try:
            application = await self._status()
        except PipelineUnavailableError as error:
            return [str(error)]
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
        While Serve's controller is away they count as they were.
        """
        try:
            application = await self._status()
        except PipelineUnavailableError:
            return None if self._facts is None else self._facts[1]
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
        with contextlib.suppress(PipelineUnavailableError):
            handle = await self._pipeline()
            facts: DenoiserFacts = await self._answer(handle.denoiser_facts)
            self._facts = deployed_s, facts

    async def _pipeline(self) -> Handle:
        if self._handle is None:
            find = self._in_thread(lambda: serve.get_app_handle(self._application))
            try:
                self._handle = await asyncio.wait_for(find, self._timeout_s)
            except RayServeException as error:
                raise PipelineUnavailableError("the pipeline is not deployed") from error
            except (asyncio.TimeoutError, RayError) as error:
                raise PipelineUnavailableError(_SILENT_CONTROLLER) from error
        return self._handle

    async def _status(self) -> ApplicationStatusOverview | None:
        """What Serve says of the pipeline; all who ask within a second share one question.

        Raises:
            PipelineUnavailableError: Serve's controller does not answer in time.
        """
        if self._status_asked is None or self._is_old(self._status_asked):
            self._status_asked = self._in_thread(serve.status)
            self._asked_s = asyncio.get_running_loop().time()
        asked = asyncio.shield(self._status_asked)
        try:
            status = await asyncio.wait_for(asked, self._timeout_s)
        except _AWAY as error:
            raise PipelineUnavailableError(_SILENT_CONTROLLER) from error
        return status.applications.get(self._application)

    def _is_old(self, asked: "asyncio.Future[ServeStatus]") -> bool:
        age_s = asyncio.get_running_loop().time() - self._asked_s
        return asked.done() and (age_s > _FRESH_S or asked.exception() is not None)

    def _in_thread(self, call: Callable[[], T]) -> "asyncio.Future[T]":
        return asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def _answer(self, method: Handle, *args: object) -> Any:
        try:
            return await asyncio.wait_for(_ask(method, *args), self._timeout_s)
        except _AWAY as error:
            raise PipelineUnavailableError("the pipeline does not answer yet") from error

    async def _stream(self, method: Handle, *args: object) -> AsyncGenerator[Item, None]:
        on_time = paced(stream(method, *args), lambda _: self._silence_s, PIPELINE)
        with blame(PIPELINE):
            async with aclosing(on_time) as items:
                async for item in items:
                    yield item


async def _ask(method: Handle, *args: object) -> Any:
    return await ask(method, *args)
