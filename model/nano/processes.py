"""Work on many things in several processes: drawing a world keeps a core busier than a GPU."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

import torch
import torch._inductor.config

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int
) -> Iterator[Result]:
    """Results in the order of the items.

    Args:
        function: What to do with each; it is pickled.
        items: Likewise.
        workers: Processes, 1 for this one alone.
    """
    if workers == 1:
        yield from map(function, items)
        return
    spawn = torch.multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, _begin, (workers,)) as pool:
        yield from pool.map(function, items)


def _begin(workers: int) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    torch._inductor.config.compile_threads = 2
