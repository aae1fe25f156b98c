"""The log of a Serve replica: ours and Serve's own lines in one shape, with the replica's name."""

import logging
import socket

from ray import serve

from cluster.logs import LogConfig, configure_logging

SERVE_LOGGER = "ray.serve"


def configure_replica_logging(config: LogConfig, stage: str) -> None:
    """Called first in a deployment's constructor, when Serve has set up its own log.

    Serve's files under `logs/serve` stay Serve's; what it writes to stderr, its access log with it,
    takes our shape.

    Args:
        config: Format and level.
        stage: The deployment's name.
    """
    replica = serve.get_replica_context().replica_id.unique_id
    formatter = configure_logging(config, stage=stage, replica=replica, node=socket.gethostname())
    for handler in logging.getLogger(SERVE_LOGGER).handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setFormatter(formatter)
