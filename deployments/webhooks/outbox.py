"""Events, written in the transaction that ends their job: neither is there without the other."""

from collections.abc import Collection
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from deployments.jobs.tables import COMPLETED, Job
from deployments.webhooks.tables import (
    VIDEO_COMPLETED,
    VIDEO_FAILED,
    WebhookDelivery,
    WebhookEndpoint,
)


def note_ends(session: Session, job_ids: Collection[str]) -> None:
    """Notes for every endpoint of their owners that these jobs are over.

    Args:
        session: The transaction in which they ended.
        job_ids: Jobs whose rows say how they ended.
    """
    if not job_ids:
        return
    ended = (
        select(WebhookEndpoint.id, WebhookEndpoint.event_types)
        .add_columns(Job.id, Job.status, Job.error_code)
        .join(Job, Job.key_id == WebhookEndpoint.key_id)
        .where(Job.id.in_(job_ids), WebhookEndpoint.disabled_at.is_(None))
    )
    for endpoint_id, wanted, job_id, status, error_code in session.execute(ended).all():
        event_type = VIDEO_COMPLETED if status == COMPLETED else VIDEO_FAILED
        if event_type in wanted:
            session.add(
                WebhookDelivery(
                    id=f"evt_{uuid4().hex}",
                    endpoint_id=endpoint_id,
                    event_type=event_type,
                    video_id=job_id,
                    error_code=error_code,
                )
            )
