"""A server's finished jobs as a trace that `lingbot-serve simulate` reads: no ids, no prompts."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, Row, func, make_url, select

from deployments.config import ServeConfig
from deployments.gateway_config import GatewayConfig
from deployments.jobs.database import open_database
from deployments.jobs.tables import COMPLETED, Job
from model.errors import ConfigurationError

_ROWS_AT_ONCE = 1000
_COLUMNS: tuple[Any, ...] = (
    Job.created_at,
    Job.gang_s,
    Job.predicted_s,
    Job.due_at_s,
    Job.width,
    Job.height,
    Job.num_frames,
    Job.num_inference_steps,
    Job.key_id,
    Job.priority,
    Job.record["denoiser"]["ranks"].as_integer().label("ranks"),
)
# The canary's clips are no load that somebody has to be served under.
_OF_CLIENTS = Job.origin == "client"
_MADE = _OF_CLIENTS & (Job.status == COMPLETED) & Job.gang_s.is_not(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedClip:
    """One line of a trace.

    Args:
        arrival_s: When it was accepted, from the first one's on.
        gpu_s: Seconds that its steps took the gang, times the gang's GPUs.
        predicted_gpu_s: The same as it was predicted when it came; None: it was not.
        deadline_s: Within which it should be done, from its arrival; None: whenever.
        key: Whose it is: a number in the order of the keys' first clips, or empty without keys.
        priority: One of `autoscaling.order.PRIORITIES`.
        num_frames: Pixel frames.
        height: Pixels.
        width: Pixels.
        num_steps: Solver steps.
    """

    arrival_s: float
    gpu_s: float
    predicted_gpu_s: float | None
    deadline_s: float | None
    key: str
    priority: str
    num_frames: int
    height: int
    width: int
    num_steps: int


def read_jobs(engine: Engine, gang_size: int) -> Iterator[TracedClip]:
    """The clips that a server has made and timed, in the order in which they came.

    Args:
        engine: From `deployments.jobs.database.open_database`.
        gang_size: GPUs of a gang, for clips whose record does not say.
    """
    keys: dict[str, str] = {"": ""}
    first_s: float | None = None
    query = select(*_COLUMNS).where(_MADE).order_by(Job.created_at, Job.number)
    with engine.connect() as connection:
        for row in connection.execute(query.execution_options(yield_per=_ROWS_AT_ONCE)):
            first_s = row.created_at if first_s is None else first_s
            key = keys.setdefault(row.key_id, str(len(keys)))
            yield _clip(row, first_s, key, row.ranks or gang_size)


def num_left_out(engine: Engine) -> int:
    """Jobs of clients that `read_jobs` leaves out: not over, failed, or not timed."""
    left_out = select(func.count()).select_from(Job).where(_OF_CLIENTS, ~_MADE)
    with engine.connect() as connection:
        return connection.scalar(left_out) or 0


@contextmanager
def jobs_database(config: Path | None, url: str | None, url_file: Path | None) -> Iterator[Engine]:
    """The database that the options name, or the one of a server without a configuration.

    Raises:
        ConfigurationError: More than one is named, or there is none.
    """
    if sum(given is not None for given in (config, url, url_file)) > 1:
        raise ConfigurationError("give one of --config, --database-url and --database-url-file")
    gateway = (
        GatewayConfig(database_url=url, database_url_file=url_file)
        if config is None
        else ServeConfig.from_yaml(config).gateway
    )
    place = make_url(gateway.store_url())
    if place.get_backend_name() == "sqlite" and not Path(place.database or "").is_file():
        raise ConfigurationError(f"there is no database {place.database}")
    engine = open_database(gateway.store_url())
    try:
        yield engine
    finally:
        engine.dispose()


def _clip(row: Row[Any], first_s: float, key: str, gpus: int) -> TracedClip:
    predicted_s = row.predicted_s
    return TracedClip(
        arrival_s=round(row.created_at - first_s, 3),
        gpu_s=round(row.gang_s * gpus, 4),
        predicted_gpu_s=None if predicted_s is None else round(predicted_s * gpus, 4),
        deadline_s=None if row.due_at_s is None else round(row.due_at_s - row.created_at, 3),
        key=key,
        priority=row.priority,
        num_frames=row.num_frames,
        height=row.height,
        width=row.width,
        num_steps=row.num_inference_steps,
    )
