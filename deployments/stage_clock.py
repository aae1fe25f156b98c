"""What the stages of one request tell about themselves, and when."""

import time
from dataclasses import dataclass, field

from cluster.logs import get_logger
from cluster.metrics import count, observe
from deployments.messages import Stage, StageEvent, StageState
from monitoring.stages import STAGE_BUSY_SECONDS, STAGE_SECONDS

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StageClock:
    """Makes the events of one stage of one request, and counts its seconds.

    Args:
        stage: Which.
        start_s: When it started, by a clock that never jumps.
        started_at: The same, since 1970.
    """

    stage: Stage
    start_s: float = field(default_factory=time.perf_counter)
    started_at: float = field(default_factory=time.time)

    def event(self, state: StageState, index: int, total: int) -> StageEvent:
        """What the stage tells now; its end goes to the metrics and the log as well.

        Args:
            state: What has happened.
            index: Steps that are finished.
            total: Of all.
        """
        seconds = time.perf_counter() - self.start_s
        if state is StageState.FINISHED:
            observe(STAGE_SECONDS, seconds, stage=self.stage.value)
            count(STAGE_BUSY_SECONDS, seconds, stage=self.stage.value)
            logger.info("stage_finished", stage=self.stage.value, seconds=round(seconds, 3))
        return StageEvent(self.stage, state, index, total, seconds, self.started_at)
