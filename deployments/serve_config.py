"""The same configuration as Serve's own file: for `serve deploy` and RayService.

How stages scale stands beside the builder's arguments, not in them: arguments and the policy's own
make up the version of an application, and Serve restarts all of it, gangs included, when that
changes. Bounds (`autoscaling_config`) and the pipeline's `user_config` change in place.
"""

from dataclasses import asdict
from typing import Any

from pydantic import BaseModel

from autoscaling.config import ReplicaBounds
from cluster.logs import LogConfig
from deployments.config import ServeConfig
from deployments.gateway_config import GatewayConfig
from deployments.messages import Stage
from deployments.names import GATEWAY, PIPELINE
from deployments.pipeline_config import PipelineConfig

_POLICY = "deployments.stage_policy:StagePolicy"
# Serve keeps reports for so many intervals, and wants more than one.
_REPORTS_KEPT = 3
_NO_SCALING = {stage.value: {"scaling"} for stage in Stage}


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
        "applications": [_pipeline(config.pipeline), _gateway(config.gateway)],
    }


def _pipeline(config: PipelineConfig) -> dict[str, Any]:
    application: dict[str, Any] = {
        "name": PIPELINE,
        "route_prefix": None,
        "import_path": "deployments.app:build_pipeline",
        "args": _args(config, exclude=_NO_SCALING),
    }
    if config.denoiser.scaling is not None:
        application["autoscaling_policy"] = {"policy_function": _POLICY}
        application["deployments"] = _scaling(config)
    return application


def _gateway(config: GatewayConfig) -> dict[str, Any]:
    return {
        "name": GATEWAY,
        "route_prefix": "/",
        "import_path": "deployments.app:build_gateway",
        "args": _args(config),
    }


def _scaling(config: PipelineConfig) -> list[dict[str, Any]]:
    """What Serve has to know of each deployment beside its arguments, where stages scale."""
    gangs = config.denoiser.scaling
    assert gangs is not None
    settings = gangs.settings(config.denoiser.gang.size)
    followers = {stage: asdict(each.settings()) for stage, each in config.followers.items()}
    reports = {
        "metrics_interval_s": gangs.report_interval_s,
        "look_back_period_s": _REPORTS_KEPT * gangs.report_interval_s,
    }
    return [
        {
            "name": PIPELINE,
            "autoscaling_config": {"min_replicas": 1, "max_replicas": 1, **reports},
            "user_config": {"gangs": asdict(settings), "followers": followers},
        },
        {
            "name": Stage.DENOISER.value,
            "max_ongoing_requests": config.denoiser.clips_per_gang,
            "autoscaling_config": _bounds(gangs),
        },
        *(
            {"name": stage, "autoscaling_config": _bounds(scaling)}
            for stage, scaling in config.followers.items()
        ),
    ]


def _bounds(scaling: ReplicaBounds) -> dict[str, Any]:
    return {
        "min_replicas": scaling.min_replicas,
        "max_replicas": scaling.max_replicas,
        # The policy has a patience and a pace of its own; Serve would wait once more after it.
        "upscale_delay_s": 0.0,
        "downscale_delay_s": 0.0,
    }


def serve_logging(config: LogConfig) -> dict[str, str]:
    """What Serve's own files are to look like, in the words of its `LoggingConfig`."""
    encoding = "TEXT" if config.format == "console" else "JSON"
    return {"encoding": encoding, "log_level": config.level.upper()}


def _args(config: BaseModel, *, exclude: Any = None) -> dict[str, Any]:
    """What was set, and no default: those are the code's, on the cluster as here."""
    return config.model_dump(mode="json", exclude_unset=True, exclude=exclude)
