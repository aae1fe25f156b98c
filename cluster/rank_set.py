"""The owner's side of one generation of ranks: started together, killed together.

The owner holds a handle and a death watch per rank, and a ping asks each of them: O(N), which
for the gangs meant here (1 to 16 ranks) is far below one step.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from cluster.config import GangConfig
from cluster.errors import GangStartError
from cluster.logs import LogConfig
from cluster.placement import RankPlace, rank_bundle, rank_bundle_indices, rank_order
from cluster.processes import kill_on_node
from cluster.program import ProgramFactory, RankReport
from cluster.rank import RankActor

# After the first failure the other ranks may wait for it in vain; they get this long to speak.
SETTLE_S = 2.0
KILL_TIMEOUT_S = 10.0


class RankSet:
    """Rank processes in rank order; ready when `start` returns."""

    def __init__(self, actors: list[Any]) -> None:
        self.actors = actors
        self.places: list[RankPlace] = []
        self.facts: object = None
        self._killing: asyncio.Task[list[int]] | None = None
        self.deaths = [watch_ref(actor.monitor.remote()) for actor in actors]

    @classmethod
    async def start(
        cls, config: GangConfig, factory: ProgramFactory, group: PlacementGroup, logs: LogConfig
    ) -> "RankSet":
        """Starts every rank, or none.

        Raises:
            GangStartError: Some ranks failed or were not ready within `start_timeout_s`.
        """
        deadline_s = time.monotonic() + config.start_timeout_s
        options = {"num_cpus": config.cpus_per_rank, "num_gpus": rank_bundle(config).get("GPU", 0)}
        ranks = cls(
            [
                RankActor.options(
                    **options, scheduling_strategy=PlacementGroupSchedulingStrategy(group, index)
                ).remote(config, index, gang_id(group), logs)
                for index in rank_bundle_indices(group.bundle_count, config.size)
            ]
        )
        try:
            await ranks._locate(deadline_s)
            await ranks._join(factory, deadline_s)
        except BaseException:
            await ranks.kill()
            raise
        return ranks

    def dead(self) -> list[int]:
        """Ranks whose process has ended."""
        return [rank for rank, death in enumerate(self.deaths) if death.done()]

    async def ping(self, timeout_s: float) -> list[RankReport | None]:
        """A report per rank; None where it does not answer in time."""
        pings = [watch_ref(actor.ping.remote()) for actor in self.actors]
        await asyncio.wait(pings, timeout=timeout_s)
        return [None if _failed(ping) else ping.result() for ping in pings]

    async def kill(self, grace_s: float = 0.0) -> list[int]:
        """Ends every rank process, stopped or stuck ones too, and waits until they are gone.

        Once begun it is finished, even if the caller is cancelled; a second call waits along.

        Args:
            grace_s: Seconds that healthy processes have to leave at Ray's word, without which
                Ray reports them as crashed.

        Returns:
            Process ids that outlived SIGKILL; empty but for faults below us.
        """
        if self._killing is None:
            self._killing = asyncio.ensure_future(self._kill(grace_s))
        return await asyncio.shield(self._killing)

    async def _kill(self, grace_s: float) -> list[int]:
        # The ids of processes that Ray has buried may belong to others by now.
        alive = [p for p, death in zip(self.places, self.deaths, strict=False) if not _died(death)]
        for actor in self.actors:
            ray.kill(actor, no_restart=True)
        pids_by_node: dict[str, list[int]] = {}
        for place in alive:
            pids_by_node.setdefault(place.node_id, []).append(place.pid)
        kills = [
            kill_on_node(node, pids, grace_s, KILL_TIMEOUT_S) for node, pids in pids_by_node.items()
        ]
        survivors = [pid for left in await asyncio.gather(*kills) for pid in left]
        await asyncio.wait(self.deaths, timeout=KILL_TIMEOUT_S)
        return survivors

    async def _locate(self, deadline_s: float) -> None:
        """Learns where the processes are and sorts them by rank."""
        places = await _all([actor.place.remote() for actor in self.actors], deadline_s)
        order = rank_order(places)
        self.places = [places[position] for position in order]
        self.actors = [self.actors[position] for position in order]
        self.deaths = [self.deaths[position] for position in order]

    async def _join(self, factory: ProgramFactory, deadline_s: float) -> None:
        [rendezvous] = await _all([self.actors[0].open_rendezvous.remote()], deadline_s)
        joins = [a.join.remote(rank, rendezvous, factory) for rank, a in enumerate(self.actors)]
        self.facts, *_ = await _all(joins, deadline_s)


def gang_id(group: PlacementGroup) -> str:
    """A gang's name: the beginning of its placement group's, which outlives the ranks."""
    name: str = group.id.hex()[:12]
    return name


async def _all(refs: Sequence[Any], deadline_s: float) -> list[Any]:
    """The answers of all ranks.

    Raises:
        GangStartError: Some rank failed or did not answer by the deadline.
    """
    answers = [watch_ref(ref) for ref in refs]
    timeout_s = max(0.0, deadline_s - time.monotonic())
    _, pending = await asyncio.wait(answers, timeout=timeout_s, return_when=asyncio.FIRST_EXCEPTION)
    if pending and any(_failed(answer) for answer in answers if answer.done()):
        await asyncio.wait(pending, timeout=SETTLE_S)
    errors = {rank: _error(answer) for rank, answer in enumerate(answers) if _failed(answer)}
    if errors:
        raise GangStartError(errors)
    return [answer.result() for answer in answers]


def watch_ref(ref: Any) -> "asyncio.Future[Any]":
    """A Ray reference as a future whose failure may go unread."""
    future: asyncio.Future[Any] = asyncio.wrap_future(ref.future())
    # A failure is looked at when it is wanted; asyncio must not complain about the others.
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return future


def _died(death: "asyncio.Future[Any]") -> bool:
    return death.done() and isinstance(death.exception(), ray.exceptions.ActorDiedError)


def _failed(answer: "asyncio.Future[Any]") -> bool:
    return not answer.done() or answer.cancelled() or answer.exception() is not None


def _error(answer: "asyncio.Future[Any]") -> str:
    if not answer.done():
        return "not ready in time"
    error = answer.exception()
    cause = getattr(error, "cause", None) or error
    return f"{type(cause).__name__}: {str(cause).strip()}"
