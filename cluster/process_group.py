"""torch.distributed in one rank: rendezvous, process groups, device."""

from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from cluster.config import GangConfig
from cluster.placement import Rendezvous
from cluster.program import RankContext


def open_store(host: str, config: GangConfig) -> TCPStore:
    """The server side of a rendezvous, on a port the kernel picks: gangs never collide.

    Args:
        host: Address of this node that the other ranks can reach.
        config: The gang.
    """
    return TCPStore(
        host,
        0,
        is_master=True,
        wait_for_workers=False,
        timeout=timedelta(seconds=config.start_timeout_s),
    )


def connect_store(rendezvous: Rendezvous, config: GangConfig) -> TCPStore:
    """The client side of a rendezvous."""
    timeout = timedelta(seconds=config.start_timeout_s)
    return TCPStore(rendezvous.host, rendezvous.port, is_master=False, timeout=timeout)


def join_groups(
    rank: int, store: TCPStore, config: GangConfig
) -> tuple[RankContext, dist.ProcessGroup]:
    """Makes this process one rank.

    Returns:
        What the program may know, and a gloo group of all ranks for control messages: on a GPU
        the default group is NCCL, whose collectives would wait for the kernels before them.
    """
    timeout = timedelta(seconds=config.collective_timeout_s)
    if config.threads_per_rank is not None:
        torch.set_num_threads(config.threads_per_rank)
    device = torch.device("cpu")
    if config.device == "cuda":
        # Ray shows the actor only the GPU of its bundle, so it is always number 0.
        device = torch.device("cuda", 0)
        torch.cuda.set_device(device)
    dist.init_process_group(
        backend="nccl" if config.device == "cuda" else "gloo",
        store=store,
        rank=rank,
        world_size=config.size,
        timeout=timeout,
        device_id=device if config.device == "cuda" else None,
    )
    context = RankContext(
        rank=rank,
        world_size=config.size,
        device=str(device),
        ulysses_degree=config.ulysses_degree,
    )
    return context, dist.new_group(backend="gloo", timeout=timeout)
