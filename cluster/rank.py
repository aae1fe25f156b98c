"""One rank: a Ray actor that builds the program once and runs job after job.

The owner imports this module for the actor's class, so torch is imported inside the methods
that only run in the rank's process: an owner without torch starts seconds sooner.
"""

import contextlib
import os
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import ray
from structlog.contextvars import bound_contextvars

from cluster.config import GangConfig
from cluster.logs import LogConfig, configure_logging, get_logger
from cluster.metrics import timed
from cluster.placement import RankPlace, Rendezvous
from cluster.program import Outcome, Program, ProgramFactory, RankReport
from model.errors import LingBotError
from monitoring.stages import LOAD_SECONDS

if TYPE_CHECKING:
    from cluster.rank_metrics import RankMetrics

logger = get_logger(__name__)

# The one stage that is a gang.
_STAGE = "denoiser"


class Rank:
    """The actor. Each concurrency group has its own thread, so a step never delays an answer.

    Args:
        config: The gang it is part of.
        bundle_index: Its bundle in the gang's placement group.
        gang_id: The gang's name in the log.
        logs: How this process writes its log.
    """

    def __init__(
        self, config: GangConfig, bundle_index: int, gang_id: str, logs: LogConfig
    ) -> None:
        import torch  # noqa: F401  # takes seconds: here all ranks do so at once

        self._config = config
        self._bundle_index = bundle_index
        self._gang_id = gang_id
        self._logs = logs
        self._rank = -1
        self._program: Program | None = None
        self._device = "cpu"
        self._job_id: str | None = None
        self._num_items = 0

    def place(self) -> RankPlace:
        """Where this process lives; the owner gives out ranks by it."""
        gpu_ids = [int(gpu_id) for gpu_id in ray.get_gpu_ids()]
        return RankPlace(
            node_id=ray.get_runtime_context().get_node_id(),
            gpu_id=gpu_ids[0] if gpu_ids else None,
            bundle_index=self._bundle_index,
            pid=os.getpid(),
        )

    def open_rendezvous(self) -> Rendezvous:
        """Opens the gang's rendezvous here and returns where it is; asked of rank 0."""
        from cluster.process_group import open_store

        host = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        self._store = open_store(host, self._config)
        return Rendezvous(host, self._store.port)

    def join(self, rank: int, rendezvous: Rendezvous, factory: ProgramFactory) -> object:
        """Becomes a rank and builds the program; returns its facts when it can run."""
        from cluster.control import Cancels
        from cluster.process_group import connect_store, join_groups

        self._rank = rank
        node = socket.gethostname()
        configure_logging(self._logs, gang_id=self._gang_id, rank=rank, node=node)
        start_s = time.monotonic()
        try:
            with timed(LOAD_SECONDS, stage=_STAGE, phase="rendezvous"):
                store = self._store if rank == 0 else connect_store(rendezvous, self._config)
                context, self._control_group = join_groups(rank, store, self._config)
            self._cancels, self._device = Cancels(), context.device
            with timed(LOAD_SECONDS, stage=_STAGE, phase="program"):
                self._program = factory(context)
        except Exception:
            logger.exception("rank_start_failed")
            raise
        logger.info("rank_ready", device=context.device, seconds=_since(start_s))
        return self._program.facts()

    @ray.method(num_returns="streaming")
    def lead(
        self, job_id: str, request: object, gang: str, log_fields: Mapping[str, str]
    ) -> Iterator[object]:
        """Runs a job and streams its items; the last is this rank's `Outcome`."""
        with bound_contextvars(**log_fields):
            yield from self._run(job_id, request, gang)

    def follow(
        self, job_id: str, request: object, gang: str, log_fields: Mapping[str, str]
    ) -> Outcome:
        """Runs a job alongside rank 0, whose items are the ones that count."""
        with bound_contextvars(**log_fields):
            # A queue of one: items are let go of at once.
            [outcome] = deque(self._run(job_id, request, gang), maxlen=1)
        assert isinstance(outcome, Outcome)
        return outcome

    @ray.method(concurrency_group="cancel")
    def cancel(self, job_id: str) -> None:
        """Ends a job at its next step boundary; sent to rank 0 only."""
        self._cancels.add(job_id)

    @ray.method(concurrency_group="ping")
    def ping(self) -> RankReport:
        """How far this rank is."""
        return RankReport(self._rank, self._job_id, self._num_items)

    @ray.method(concurrency_group="monitor")
    def monitor(self) -> None:
        """Never returns, so that the caller's reference resolves when this process ends."""
        threading.Event().wait()

    def _run(self, job_id: str, request: object, gang: str) -> Iterator[object]:
        from cluster.rank_metrics import RankMetrics

        self._job_id, self._num_items = job_id, 0
        metrics = RankMetrics(gang, self._rank)
        start_s = time.monotonic()
        try:
            yield from self._steps(job_id, request, metrics)
        except LingBotError as error:
            outcome = Outcome(self._rank, error=error)
            logger.info("rank_job_ended", error=str(error), **self._spent(start_s))
        except Exception as error:
            # The edge of the process: the owner decides what a broken program means.
            logger.exception("rank_failed", **self._spent(start_s))
            outcome = Outcome(
                self._rank,
                failure=f"{type(error).__name__}: {error}",
                rank_traceback=traceback.format_exc(),
                out_of_memory=_is_out_of_memory(error),
            )
        else:
            outcome = Outcome(self._rank)
            logger.info("rank_job_ended", **self._spent(start_s))
        metrics.end(self._device)
        yield outcome

    def _spent(self, start_s: float) -> dict[str, float]:
        return {"items": self._num_items, "seconds": _since(start_s)}

    def _steps(self, job_id: str, request: object, metrics: "RankMetrics") -> Iterator[object]:
        from cluster.control import StepControl

        assert self._program is not None
        control = StepControl(job_id, self._cancels, self._control_group)
        with metrics.boundary():
            control.agree()
        # Closed here and now: a generator left to the collector would stop at a random moment.
        with contextlib.closing(self._program.run(request)) as items:
            for item in items:
                self._num_items += 1
                metrics.step()
                yield item
                with metrics.boundary():
                    control.agree()


def _is_out_of_memory(error: Exception) -> bool:
    import torch

    return isinstance(error, (MemoryError, torch.OutOfMemoryError))


def _since(start_s: float) -> float:
    return round(time.monotonic() - start_s, 3)


# Ray's annotations lack concurrency_groups.
_OPTIONS: dict[str, Any] = {
    "max_restarts": 0,
    "max_task_retries": 0,
    "concurrency_groups": {"cancel": 1, "ping": 1, "monitor": 1},
}
RankActor: Any = ray.remote(**_OPTIONS)(Rank)
