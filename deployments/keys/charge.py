"""What a new job takes from its key's quotas, counted in the database so that gateways agree."""

import math
import time
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from deployments.errors import QuotaExceededError
from deployments.jobs.tables import IN_PROGRESS, QUEUED, Job
from deployments.keys.rights import Quotas
from deployments.keys.tables import ApiKey, KeyUsage

_DAY_S = 86_400
# When one of a key's jobs may be over; nobody knows better.
_JOB_RETRY_S = 10.0


@dataclass(frozen=True, slots=True)
class Charge:
    """One job's share of its key's quotas.

    What was charged is not paid back when the job fails or is deleted.

    Args:
        quotas: Of the key.
        gpus_per_gang: What a second of a gang costs, in GPU-seconds.
    """

    quotas: Quotas
    gpus_per_gang: int = 1

    def book(self, session: Session, job: Job) -> None:
        """Takes it, in the transaction that writes the job and before that.

        Args:
            session: The transaction.
            job: With the gang's seconds that it will take, by forecast.

        Raises:
            QuotaExceededError: A quota is used up; says when to come back.
        """
        quotas = self.quotas
        if quotas.max_unfinished_jobs is None and quotas.gpu_seconds_per_day is None:
            return
        # Locks the key's row, or all of SQLite: one gateway counts after the other.
        session.execute(update(ApiKey).where(ApiKey.id == job.key_id).values(id=job.key_id))
        if quotas.max_unfinished_jobs is not None:
            _check_unfinished(session, job.key_id, quotas.max_unfinished_jobs)
        if quotas.gpu_seconds_per_day is not None:
            self._book_gpu_seconds(session, job, quotas.gpu_seconds_per_day)

    def _book_gpu_seconds(self, session: Session, job: Job, limit: float) -> None:
        key_id, now_s = job.key_id, time.time()
        needed = (job.predicted_s or 0.0) * self.gpus_per_gang
        today = int(now_s // _DAY_S)
        usage = session.get(KeyUsage, key_id)
        if usage is None:
            usage = KeyUsage(key_id=key_id, day=today, gpu_seconds=0.0)
            session.add(usage)
        if usage.day != today:
            usage.day, usage.gpu_seconds = today, 0.0
        if usage.gpu_seconds + needed > limit:
            raise QuotaExceededError(
                f"this API key may use {limit:g} GPU-seconds a day; {usage.gpu_seconds:.0f} are "
                f"taken and this video needs about {needed:.0f}",
                retry_after_s=math.ceil((today + 1) * _DAY_S - now_s),
            )
        usage.gpu_seconds += needed


def _check_unfinished(session: Session, key_id: str, limit: int) -> None:
    unfinished = select(func.count()).where(
        Job.key_id == key_id, Job.status.in_((QUEUED, IN_PROGRESS))
    )
    if (session.scalar(unfinished) or 0) >= limit:
        raise QuotaExceededError(
            f"this API key may have {limit} unfinished videos at a time; wait for one of them",
            retry_after_s=_JOB_RETRY_S,
        )
