"""Jobs that clients watch: one look at the database for all of them, however many watch."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, select
from sqlalchemy.orm import sessionmaker

from cluster.logs import get_logger
from deployments.errors import TooManyStreamsError
from deployments.jobs.outlook import UNKNOWN, Outlook
from deployments.jobs.tables import Job

logger = get_logger(__name__)

LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Sighting:
    """A job as it was at one look.

    Args:
        job: None if it was deleted.
        outlook: What awaits it.
    """

    job: Job | None
    outlook: Outlook = UNKNOWN


class Watch:
    """Looks at the watched jobs twice a second, as long as anybody watches.

    A watcher gets the latest sighting, never a queue of them: a slow one skips, and holds nothing.

    Args:
        engine: From `deployments.jobs.database.open_database`.
        outlooks: Says what awaits some jobs, by their ids; called in a thread.
        max_watchers: Most of them at once.
    """

    def __init__(
        self,
        engine: Engine,
        outlooks: Callable[[Iterable[Job]], Mapping[str, Outlook]],
        *,
        max_watchers: int,
    ) -> None:
        self._session = sessionmaker(engine, expire_on_commit=False)
        self._outlooks = outlooks
        self._max_watchers = max_watchers
        self._watchers: Counter[str] = Counter()
        self._seen: Mapping[str, Sighting] = {}
        self._looked = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

    def check_room(self) -> None:
        """Raises unless one more may watch.

        Raises:
            TooManyStreamsError: As many watch as may.
        """
        if self._watchers.total() >= self._max_watchers:
            raise TooManyStreamsError("too many streams are open; poll, or come back later")

    def is_watched(self, job_id: str) -> bool:
        """Whether anybody watches a job here."""
        return self._watchers[job_id] > 0

    def close(self) -> None:
        """Ends every watch, and those that come."""
        self._closed = True
        self._looked.set()

    async def sightings(self, job_id: str) -> AsyncGenerator[Sighting, None]:
        """What is seen of a job from now on, until it is deleted or the gateway stops."""
        self._watchers[job_id] += 1
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_again(), name="watch")
        try:
            while not self._closed:
                await self._looked.wait()
                if sighting := self._seen.get(job_id):
                    yield sighting
                    if sighting.job is None:
                        return
        finally:
            self._watchers[job_id] -= 1
            if not self._watchers[job_id]:
                del self._watchers[job_id]

    async def _look_again(self) -> None:
        while self._watchers and not self._closed:
            try:
                self._seen = await asyncio.to_thread(self._look, tuple(self._watchers))
            except Exception:  # whatever it was, those who watch must not wait for ever
                logger.exception("watch_interrupted")
            looked, self._looked = self._looked, asyncio.Event()
            looked.set()
            await asyncio.sleep(LOOK_S)
        self._seen = {}

    def _look(self, job_ids: Sequence[str]) -> Mapping[str, Sighting]:
        with self._session() as session:
            jobs = session.scalars(select(Job).where(Job.id.in_(job_ids))).all()
        outlooks = self._outlooks(jobs)
        seen = {job.id: Sighting(job, outlooks.get(job.id, UNKNOWN)) for job in jobs}
        return {job_id: seen.get(job_id, Sighting(None)) for job_id in job_ids}
