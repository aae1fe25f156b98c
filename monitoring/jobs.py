"""Metrics of jobs: what the gateway sees from a video's acceptance to its end."""

from monitoring.labels import JOB_CLASS, ORIGIN, OUTCOME, PRIORITY
from monitoring.metric import Exporter, Kind, Label, Metric

# From a canary of two steps to an hour of queue before a long clip.
_JOB_BUCKETS = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 2400.0, 3600.0)

_CODE = Label(
    "code",
    (
        "rank_died",
        "step_timeout",
        "rank_failed",
        "gang_start_failed",
        "gang_stopped",
        "gang_healing",
        "gang_failed",
        "gang_died",
        "poison_job",
        "out_of_memory",
        "cancelled",
        "expired",
        "invalid_value",
        "pipeline_unavailable",
        "artifact_store_unavailable",
        "inputs_lost",
        "stage_died",
        "stage_timeout",
        "internal_error",
        "interrupted",
    ),
)
_REFUSAL = Label(
    "code",
    (
        "invalid_value",
        "permission_denied",
        "body_too_slow",
        "body_too_large",
        "unsupported_media_type",
        "idempotency_mismatch",
        "queue_wait_too_long",
        "quota_exceeded",
        "queue_full",
        "draining",
        "pipeline_unavailable",
        "artifact_store_unavailable",
        "database_unavailable",
    ),
)

JOBS = Metric(
    "lingbot_jobs_total",
    Kind.COUNTER,
    "jobs",
    "Jobs that ended, by how.",
    (OUTCOME, JOB_CLASS, ORIGIN),
)
JOB_FAILURES = Metric(
    "lingbot_job_failures_total",
    Kind.COUNTER,
    "jobs",
    "Jobs that failed or were cancelled, by the error code that the API shows.",
    (_CODE,),
)
JOB_RETRIES = Metric(
    "lingbot_job_retries_total",
    Kind.COUNTER,
    "attempts",
    "Attempts at jobs that failed and are followed by another, by why.",
    (_CODE,),
)
JOBS_REFUSED = Metric(
    "lingbot_jobs_refused_total",
    Kind.COUNTER,
    "requests",
    "Requests for a video that were refused before a job was made, by error code.",
    (_REFUSAL,),
)
JOB_WAIT_SECONDS = Metric(
    "lingbot_job_wait_seconds",
    Kind.HISTOGRAM,
    "seconds",
    "From a job's acceptance to its hand-over to the pipeline.",
    (JOB_CLASS,),
    _JOB_BUCKETS,
)
JOB_SECONDS = Metric(
    "lingbot_job_seconds",
    Kind.HISTOGRAM,
    "seconds",
    "From a job's acceptance to its end, by how it ended.",
    (OUTCOME, JOB_CLASS),
    _JOB_BUCKETS,
)
FRAMES = Metric(
    "lingbot_frames_total", Kind.COUNTER, "frames", "Video frames of completed jobs.", (JOB_CLASS,)
)
VIDEO_SECONDS = Metric(
    "lingbot_video_seconds_total",
    Kind.COUNTER,
    "seconds",
    "Playing time of the videos of completed jobs.",
    (JOB_CLASS,),
)
SLO_JOBS = Metric(
    "lingbot_slo_jobs_total",
    Kind.COUNTER,
    "jobs",
    "Ended jobs by whether an objective was attained: completed (not failed; cancelled jobs do not "
    "count), wait (handed over within the gateway's wait_objective_s), deadline (completed before "
    "deadline_s; jobs with a deadline only).",
    (Label("objective", ("completed", "wait", "deadline")), Label("attained", ("true", "false"))),
)
CANARY_SUCCESS_TIME = Metric(
    "lingbot_canary_last_success_timestamp_seconds",
    Kind.GAUGE,
    "seconds",
    "Unix time at which the last canary job was completed.",
)

QUEUE_JOBS = Metric(
    "lingbot_queue_jobs",
    Kind.GAUGE,
    "jobs",
    "Jobs that wait for the pipeline.",
    (JOB_CLASS, PRIORITY),
    exporter=Exporter.GATEWAY,
)
QUEUE_OLDEST_SECONDS = Metric(
    "lingbot_queue_oldest_age_seconds",
    Kind.GAUGE,
    "seconds",
    "Age of the oldest job that waits; 0 with an empty queue.",
    (JOB_CLASS, PRIORITY),
    exporter=Exporter.GATEWAY,
)
RUNNING_JOBS = Metric(
    "lingbot_running_jobs",
    Kind.GAUGE,
    "jobs",
    "Jobs in the pipeline.",
    (JOB_CLASS,),
    exporter=Exporter.GATEWAY,
)
READY = Metric(
    "lingbot_ready",
    Kind.GAUGE,
    "boolean",
    "1 where a video can be made now, as /readyz says; else 0.",
    exporter=Exporter.GATEWAY,
)
STORE_UP = Metric(
    "lingbot_store_up",
    Kind.GAUGE,
    "boolean",
    "1 where the database of jobs answers, else 0.",
    exporter=Exporter.GATEWAY,
)
