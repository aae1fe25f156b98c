"""Room in the cluster for a gang whose owner has none."""

import asyncio

from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from cluster.config import GangConfig
from cluster.errors import GangStartError
from cluster.placement import rank_bundle, rank_bundles


async def reserve(config: GangConfig) -> PlacementGroup:
    """A placement group of the gang's own, ready.

    Raises:
        GangStartError: The cluster has no room within `start_timeout_s`.
    """
    group: PlacementGroup = placement_group(rank_bundles(config), strategy=config.placement)
    try:
        await asyncio.wait_for(group.ready(), config.start_timeout_s)
    except BaseException as error:
        remove_placement_group(group)
        if not isinstance(error, asyncio.TimeoutError):
            raise
        problem = (
            f"no room for {rank_bundle(config)} ({config.placement}) "
            f"within {config.start_timeout_s:g} s"
        )
        raise GangStartError(dict.fromkeys(range(config.size), problem)) from None
    return group
