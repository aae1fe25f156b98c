"""One cell of the matrix: a job in a state, a part struck, and how all jobs end."""

import time
from collections.abc import Sequence
from dataclasses import asdict

from benchmarks.chaos.jobs import denoises, wait_until_over, watching
from benchmarks.chaos.service import Service
from benchmarks.chaos.states import Scene, State, scene
from benchmarks.chaos.strikes import Strike, strike
from deployments.jobs.tables import COMPLETED, Job
from lingbot_serve.bench.chaos import ChaosRow
from lingbot_serve.bench.records import Origin

END_TIMEOUT_S = 90.0
WHOLE_TIMEOUT_S = 120.0
NEVER = "never_ended"
_NUM_BYTES = 500  # an MP4 of one frame is larger


def run_cell(service: Service, what: Strike, state: State, origin: Origin) -> ChaosRow:
    """Runs one cell; the service is whole before and after.

    Args:
        service: To strike.
        what: To strike.
        state: Of the job to be struck.
        origin: Of the row.

    Raises:
        StateMissedError: The job did not stay in the state long enough.
        TimeoutError: The service did not become whole again.
    """
    service.wait_until_whole(timeout_s=WHOLE_TIMEOUT_S)
    with (
        scene(service, _struck_in(what, state)) as jobs,
        watching(service.engine, jobs.victim) as watch,
    ):
        struck_s = time.monotonic()
        strike(service, what, jobs.victim, _struck_in(what, state))
        jobs.release()
        victim, others = _ends(service, jobs)
        watch.finish()
    service.wait_until_whole(timeout_s=WHOLE_TIMEOUT_S)
    whole_s = time.monotonic() - struck_s
    counted = denoises(service.logs_dir, jobs.victim)
    return ChaosRow(
        **asdict(origin),
        strike=what.value,
        state=state.value,
        outcome=outcome(service, victim),
        attempts=victim.attempts,
        denoises=counted.begun,
        denoises_repeated=counted.repeated,
        resumed_s=watch.resumed_s(struck_s),
        ended_s=watch.ended_s(struck_s),
        bystanders=[outcome(service, job) for job in others],
        whole_s=round(whole_s, 2),
    )


def _struck_in(what: Strike, state: State) -> State:
    """A held job has its clip stored already: the store must be gone when the clip comes to it."""
    before = what is Strike.ARTIFACTS and state is State.STORING
    return State.DECODING if before else state


def _ends(service: Service, jobs: Scene) -> tuple[Job, Sequence[Job]]:
    deadline_s = time.monotonic() + END_TIMEOUT_S

    def end(job_id: str) -> Job:
        left_s = max(0.0, deadline_s - time.monotonic())
        return wait_until_over(service.engine, job_id, timeout_s=left_s)

    return end(jobs.victim), [end(job_id) for job_id in jobs.bystanders]


def outcome(service: Service, job: Job) -> str:
    """How a job ended: completed with a clip that downloads, or the code of its error."""
    if not job.is_over:
        return NEVER
    if job.status != COMPLETED:
        return job.error_code or ""
    with service.client() as client:
        content = client.get(f"/v1/videos/{job.id}/content", follow_redirects=True)
    whole = content.status_code == 200 and len(content.content) > _NUM_BYTES
    return COMPLETED if whole else f"content_{content.status_code}"
