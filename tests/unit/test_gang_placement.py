"""Which bundles a gang asks for, and who becomes which rank."""

import pytest

from cluster.config import GangConfig
from cluster.placement import (
    RankPlace,
    rank_bundle_indices,
    rank_bundles,
    rank_order,
    replica_bundles,
)
from model.errors import ConfigurationError


def test_a_cpu_rank_takes_cpus_only() -> None:
    config = GangConfig(size=2, cpus_per_rank=3, controller_cpus=0.5)
    assert replica_bundles(config) == [{"CPU": 0.5}, {"CPU": 3.0}, {"CPU": 3.0}]


def test_a_gpu_rank_takes_a_whole_gpu_or_leaves_a_share() -> None:
    config = GangConfig(size=2, device="cuda", cpus_per_rank=2)
    assert rank_bundles(config) == [{"GPU": 1.0, "CPU": 2.0}] * 2
    sharing = config.model_copy(update={"gpus_per_rank": 0.8})
    assert rank_bundles(sharing) == [{"GPU": 0.8, "CPU": 2.0}] * 2


def test_the_owners_bundle_comes_first_where_it_has_one() -> None:
    assert list(rank_bundle_indices(num_bundles=3, size=2)) == [1, 2]
    assert list(rank_bundle_indices(num_bundles=2, size=2)) == [0, 1]


@pytest.mark.parametrize("num_bundles", [1, 4])
def test_another_number_of_bundles_is_refused(num_bundles: int) -> None:
    with pytest.raises(ConfigurationError, match="needs a placement group of 3 bundles"):
        rank_bundle_indices(num_bundles, size=2)


def test_ranks_go_node_by_node_and_gpu_by_gpu() -> None:
    places = [
        RankPlace("node-b", 1, bundle_index=1, pid=1),
        RankPlace("node-a", 10, bundle_index=2, pid=2),
        RankPlace("node-b", 0, bundle_index=3, pid=3),
        RankPlace("node-a", 9, bundle_index=4, pid=4),
    ]
    ordered = [places[position] for position in rank_order(places)]
    assert [(place.node_id, place.gpu_id) for place in ordered] == [
        ("node-a", 9),
        ("node-a", 10),
        ("node-b", 0),
        ("node-b", 1),
    ]


def test_without_gpus_the_bundle_decides_within_a_node() -> None:
    places = [RankPlace("node", None, bundle_index=index, pid=index) for index in (3, 1, 2)]
    assert rank_order(places) == [1, 2, 0]
