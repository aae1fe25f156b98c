"""Small SPMD programs for gangs: real collectives, next to no work."""

import os
import time
from collections.abc import Generator
from dataclasses import dataclass, field

import torch
import torch.distributed as dist

from cluster.program import RankContext
from model.errors import InvalidInputError


@dataclass(frozen=True)
class Work:
    """What a `Counter` does with one job.

    Args:
        num_steps: Items to yield.
        step_s: Sleep before each, in seconds.
        refuse_on: Ranks that raise `InvalidInputError` at step 1.
        break_on: Ranks that raise `ZeroDivisionError` at step 1.
        starve_on: Ranks that ask for more memory than there is, at step 1.
        exit_on: Ranks whose process exits at step 1.
    """

    num_steps: int
    step_s: float = 0.01
    refuse_on: tuple[int, ...] = ()
    break_on: tuple[int, ...] = ()
    starve_on: tuple[int, ...] = ()
    exit_on: tuple[int, ...] = ()


@dataclass(frozen=True)
class Tick:
    """One step of a `Counter`, the same on every rank.

    Args:
        index: Step of this job, from 0.
        total: Steps of all jobs since the program was built.
        rank_sum: Sum of rank + 1 over the ranks, by all-reduce.
        at_s: Monotonic time of rank 0.
    """

    index: int
    total: int
    rank_sum: int
    at_s: float = field(compare=False, default=0.0)


class Counter:
    """Counts its steps over all jobs; every step is an all-reduce."""

    def __init__(self, context: RankContext) -> None:
        self._context = context
        self._total = 0

    def facts(self) -> str:
        return f"a counter on {self._context.world_size} ranks"

    def run(self, request: object) -> Generator[object, None, None]:
        assert isinstance(request, Work)
        for index in range(request.num_steps):
            time.sleep(request.step_s)
            if index == 1:
                self._misbehave(request)
            rank_sum = torch.tensor([self._context.rank + 1])
            dist.all_reduce(rank_sum)
            self._total += 1
            yield Tick(index, self._total, int(rank_sum), time.monotonic())

    def _misbehave(self, work: Work) -> None:
        if self._context.rank in work.refuse_on:
            raise InvalidInputError("num_steps", "this program was told to refuse")
        if self._context.rank in work.break_on:
            raise ZeroDivisionError("this program was told to break")
        if self._context.rank in work.starve_on:
            bytearray(1 << 60)
        if self._context.rank in work.exit_on:
            os._exit(1)


@dataclass(frozen=True)
class FailingFactory:
    """Builds a `Counter`, except on some ranks.

    Args:
        fail_on: Ranks that raise.
        sleep_on: Ranks that never become ready.
    """

    fail_on: tuple[int, ...] = ()
    sleep_on: tuple[int, ...] = ()

    def __call__(self, context: RankContext) -> Counter:
        if context.rank in self.fail_on:
            raise FileNotFoundError(f"no weights for rank {context.rank}")
        if context.rank in self.sleep_on:
            time.sleep(3600)
        return Counter(context)


@dataclass(frozen=True)
class FailingOnceMade:
    """Builds a `Counter` until a file exists: a gang that starts once and never heals.

    Args:
        path: The file.
    """

    path: str

    def __call__(self, context: RankContext) -> Counter:
        if os.path.exists(self.path):
            raise FileNotFoundError("the weights are gone")
        return Counter(context)
