"""A clip's way through the encoders, which work side by side."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from deployments.calls import Answer, Handle, ask, blame
from deployments.deadlines import within
from deployments.messages import GenerateRequest, Stage, StageEvent, StageState
from deployments.stage_clock import StageClock
from deployments.timeouts import StageTimeouts


@dataclass(frozen=True, slots=True)
class Encodings:
    """Answers of the encoders; they travel on by reference, not through this process.

    Args:
        prompt: Of the text encoder.
        negative_prompt: Likewise.
        first_frame: Of the VAE's encoder.
        image: Of the image encoder, where there is one.
    """

    prompt: Answer
    negative_prompt: Answer
    first_frame: Answer
    image: Answer | None

    def by_stage(self) -> dict[Stage, list[Answer]]:
        """What to wait for, by stage."""
        stages = {
            Stage.TEXT_ENCODER: [self.prompt, self.negative_prompt],
            Stage.VAE_ENCODER: [self.first_frame],
        }
        return stages if self.image is None else {**stages, Stage.IMAGE_ENCODER: [self.image]}


@dataclass(frozen=True, slots=True)
class Encoders:
    """Handles of the stages before the gang.

    Args:
        text: Of the text encoder.
        image: Of the image encoder; None where the checkpoint has no image branch.
        first_frame: Of the VAE's encoder.
    """

    text: Handle
    image: Handle | None
    first_frame: Handle

    def encode(self, request: GenerateRequest) -> Encodings:
        """Asks all of them at once."""
        return Encodings(
            prompt=ask(self.text.encode, request.prompt),
            negative_prompt=ask(self.text.encode, request.negative_prompt),
            first_frame=ask(self.first_frame.encode, request.image, request.shape),
            image=None if self.image is None else ask(self.image.encode, request.image),
        )


async def finish(encodings: Encodings, timeouts: StageTimeouts) -> AsyncGenerator[StageEvent, None]:
    """Waits for the encoders.

    Args:
        encodings: What they were asked for.
        timeouts: How long they may take.

    Yields:
        Each one's start, then each one's end in the order in which they end.

    Raises:
        StageError: One was lost or did not answer in time.
    """
    clocks = {stage: StageClock(stage) for stage in encodings.by_stage()}
    for clock in clocks.values():
        yield clock.event(StageState.STARTED, 0, 1)
    finished = [
        asyncio.ensure_future(_event_at_end(clocks[stage], answers, timeouts))
        for stage, answers in encodings.by_stage().items()
    ]
    try:
        for next_event in asyncio.as_completed(finished):
            yield await next_event
    finally:
        for waiting in finished:
            waiting.cancel()


async def _event_at_end(
    clock: StageClock, answers: list[Answer], timeouts: StageTimeouts
) -> StageEvent:
    stage = clock.stage.value
    with blame(stage):
        await within(asyncio.gather(*answers), timeouts.answer_s(clock.stage), stage)
    return clock.event(StageState.FINISHED, 1, 1)
