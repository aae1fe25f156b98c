"""The same configuration as Serve's own file: for `serve deploy` and RayService."""

from typing import Any

from pydantic import BaseModel

from cluster.logs import LogConfig
from deployments.config import ServeConfig
from deployments.names import GATEWAY, PIPELINE


def serve_config(config: ServeConfig) -> dict[str, Any]:
    """Serve's multi-application file with both builders and their arguments.

    Args:
        config: The whole service.

    Returns:
        What `serve deploy` takes as YAML and RayService as `serveConfigV2`.
    """
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": config.http.host, "port": config.http.port},
        "logging_config": serve_logging(config.logging),
        "applications": [
            {
                "name": PIPELINE,
                "route_prefix": None,
                "import_path": "deployments.app:build_pipeline",
                "args": _args(config.pipeline),
            },
            {
                "name": GATEWAY,
                "route_prefix": "/",
                "import_path": "deployments.app:build_gateway",
                "args": _args(config.gateway),
            },
        ],
    }


def serve_logging(config: LogConfig) -> dict[str, str]:
    """What Serve's own files are to look like, in the words of its `LoggingConfig`."""
    encoding = "TEXT" if config.format == "console" else "JSON"
    return {"encoding": encoding, "log_level": config.level.upper()}


def _args(config: BaseModel) -> dict[str, Any]:
    """What was set, and no default: those are the code's, on the cluster as here."""
    return config.model_dump(mode="json", exclude_unset=True)
