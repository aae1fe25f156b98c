"""Metrics of the gangs and their ranks."""

from monitoring.labels import GANG, OUTCOME, RANK
from monitoring.metric import Kind, Label, Metric

_CANCEL_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0)
_WAIT_BUCKETS = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0)
_CAUSE = Label(
    "cause", ("rank_died", "rank_failed", "step_timeout", "out_of_memory", "gang_start_failed")
)

GANG_STATES = ("starting", "idle", "running", "healing", "dead")

GANG_STATE = Metric(
    "lingbot_gang_state",
    Kind.GAUGE,
    "boolean",
    "1 for the state that a gang is in, 0 for the others.",
    (GANG, Label("state", GANG_STATES)),
)
GANG_RESTARTS = Metric(
    "lingbot_gang_restarts_total",
    Kind.COUNTER,
    "restarts",
    "Times that a gang lost its ranks and had to start others, by cause.",
    (GANG, _CAUSE),
)
GANG_HEAL_SECONDS = Metric(
    "lingbot_gang_heal_seconds_total",
    Kind.COUNTER,
    "seconds",
    "Time from the loss of a gang's ranks to the next ones being ready, by cause.",
    (GANG, _CAUSE),
)
GANG_START_SECONDS = Metric(
    "lingbot_gang_start_seconds",
    Kind.GAUGE,
    "seconds",
    "How long the gang took from its start to all its ranks being ready.",
    (GANG,),
)
GANG_WAIT_SECONDS = Metric(
    "lingbot_gang_wait_seconds",
    Kind.HISTOGRAM,
    "seconds",
    "How long an encoded clip waits beside its gang.",
    (),
    _WAIT_BUCKETS,
)
GANG_QUEUED_JOBS = Metric(
    "lingbot_gang_queued_jobs", Kind.GAUGE, "jobs", "Encoded clips that wait for a gang.", (GANG,)
)
GPU_SECONDS = Metric(
    "lingbot_gpu_seconds_total",
    Kind.COUNTER,
    "seconds",
    "Seconds of work times ranks, by what became of the clip: all but completed is waste. A rank "
    "without a GPU counts alike.",
    (OUTCOME,),
)
CANCEL_SECONDS = Metric(
    "lingbot_cancel_seconds",
    Kind.HISTOGRAM,
    "seconds",
    "From a gang's owner hearing that a running clip is to end to the ranks being free.",
    (),
    _CANCEL_BUCKETS,
)
RANK_STEPS = Metric(
    "lingbot_rank_steps_total",
    Kind.COUNTER,
    "steps",
    "Items that a rank has finished: solver steps, and the latents at the end.",
    (GANG, RANK),
)
RANK_STEP_SECONDS = Metric(
    "lingbot_rank_step_seconds_total",
    Kind.COUNTER,
    "seconds",
    "Time that a rank took to reach its step boundaries.",
    (GANG, RANK),
)
RANK_WAIT_SECONDS = Metric(
    "lingbot_rank_boundary_wait_seconds_total",
    Kind.COUNTER,
    "seconds",
    "Time that a rank waited at step boundaries for rank 0.",
    (GANG, RANK),
)
RANK_MEMORY = Metric(
    "lingbot_rank_peak_memory_bytes",
    Kind.GAUGE,
    "bytes",
    "Most memory that a rank has held: of its GPU, or of its process where it has none.",
    (GANG, RANK),
)
