"""What can be said of jobs that are not over: place in the queue and time to the end."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Engine, select
from sqlalchemy.orm import sessionmaker

from deployments.jobs.tables import QUEUED, Job


@dataclass(frozen=True, slots=True)
class Outlook:
    """What awaits one job.

    Args:
        queue_position: Jobs that go before it, plus one; None unless it waits.
        eta_seconds: Until it is done; None where nobody can say, or it is over.
    """

    queue_position: int | None = None
    eta_seconds: float | None = None


UNKNOWN = Outlook()


class Outlooks:
    """Reads them off the queue; every call is one short transaction and may run in a thread.

    Args:
        engine: From `deployments.jobs.database.open_database`.
    """

    def __init__(self, engine: Engine) -> None:
        self._session = sessionmaker(engine, expire_on_commit=False)

    def of(self, jobs: Iterable[Job]) -> Mapping[str, Outlook]:
        """The outlook of each of these jobs that is not over, by its id."""
        wanted = {job.id for job in jobs if job.status == QUEUED}
        if not wanted:
            return {}
        queue = select(Job.id).where(Job.status == QUEUED).order_by(Job.number)
        with self._session() as session:
            places = enumerate(session.scalars(queue), start=1)
            return {name: Outlook(place) for place, name in places if name in wanted}
