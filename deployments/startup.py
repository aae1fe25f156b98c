"""A component's start, into the metrics: which version it is and how long its weights took."""

import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from cluster.metrics import set_gauge, timed
from deployments.messages import Stage
from monitoring.stages import BUILD_INFO, LOAD_SECONDS

_DISTRIBUTION = "lingbot-serve"


def announce(component: str) -> None:
    """Says in the metrics that a component runs, and which version of it.

    Args:
        component: A stage, the pipeline or the gateway.
    """
    set_gauge(BUILD_INFO, 1, component=component, version=version(), ray=ray.__version__)


@contextmanager
def loading(stage: Stage) -> Iterator[None]:
    """Around the code that reads a stage's weights."""
    announce(stage.value)
    with timed(LOAD_SECONDS, stage=stage.value, phase="weights"):
        yield


@contextmanager
def compiling(stage: Stage) -> Iterator[None]:
    """Around the run that makes a stage compile what it will run."""
    with timed(LOAD_SECONDS, stage=stage.value, phase="compile"):
        yield


def version() -> str:
    """Of this project; `source` where it runs from its folder without being installed."""
    try:
        return importlib.metadata.version(_DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "source"
