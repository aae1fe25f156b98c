"""Where the ranks of a gang go and meet: bundles to reserve, who becomes which rank. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.config import GangConfig
from model.errors import ConfigurationError

Bundle = dict[str, float]


@dataclass(frozen=True, slots=True)
class RankPlace:
    """Where one rank process lives.

    Args:
        node_id: Ray's name of the node.
        gpu_id: Index of its GPU on that node; None without GPU.
        bundle_index: Its bundle of the placement group.
        pid: Process id on that node.
    """

    node_id: str
    gpu_id: int | None
    bundle_index: int
    pid: int


@dataclass(frozen=True, slots=True)
class Rendezvous:
    """Where the ranks of one gang meet.

    Args:
        host: Address of rank 0's node.
        port: Of its store.
    """

    host: str
    port: int


def rank_bundle(config: GangConfig) -> Bundle:
    """Resources of one rank."""
    cpus = {"CPU": config.cpus_per_rank}
    return {"GPU": config.gpus_per_rank, **cpus} if config.device == "cuda" else cpus


def replica_bundles(config: GangConfig) -> list[Bundle]:
    """Bundles of a process that owns a gang: its own first, then one per rank."""
    return [{"CPU": config.controller_cpus}, *rank_bundles(config)]


def rank_bundles(config: GangConfig) -> list[Bundle]:
    """Bundles of a gang whose owner has a place already: one per rank."""
    return [rank_bundle(config) for _ in range(config.size)]


def rank_bundle_indices(num_bundles: int, size: int) -> range:
    """Indices of the ranks' bundles in a placement group.

    Args:
        num_bundles: Bundles of the group: one per rank, or the owner's and then one per rank.
        size: Ranks of the gang.

    Raises:
        ConfigurationError: The group has another number of bundles.
    """
    if num_bundles not in (size, size + 1):
        raise ConfigurationError(
            f"a gang of {size} needs a placement group of {size + 1} bundles (its owner's, then "
            f"one per rank), this one has {num_bundles}: use cluster.placement.replica_bundles"
        )
    return range(num_bundles - size, num_bundles)


def rank_order(places: Sequence[RankPlace]) -> list[int]:
    """Positions in `places` in the order of their ranks.

    Ray promises no order of bundles over nodes. Neighbouring ranks form a Ulysses group, so
    they are taken node by node, GPU by GPU: its all-to-all then stays inside a node.
    """

    def key(position: int) -> tuple[str, int, int]:
        place = places[position]
        gpu = -1 if place.gpu_id is None else place.gpu_id
        return (place.node_id, gpu, place.bundle_index)

    return sorted(range(len(places)), key=key)
