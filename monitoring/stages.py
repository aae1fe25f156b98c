"""Metrics of the stages: how long each takes, how it loads, what travels between them."""

from monitoring.labels import COMPONENT, RAY_VERSION, SIZE, SOURCE, STAGE, TARGET, VERSION
from monitoring.metric import Kind, Label, Metric

_STAGE_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_STEP_BUCKETS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 13.0, 30.0, 60.0)
_TRANSFER_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0, 300.0)

STAGE_SECONDS = Metric(
    "lingbot_stage_seconds",
    Kind.HISTOGRAM,
    "seconds",
    "One stage of one clip as the pipeline sees it: waiting for the stage and hand-over included.",
    (STAGE,),
    _STAGE_BUCKETS,
)
STAGE_BUSY_SECONDS = Metric(
    "lingbot_stage_busy_seconds_total",
    Kind.COUNTER,
    "seconds",
    "The same, summed: seconds of clips in a stage, which is how many clips are in it on average.",
    (STAGE,),
)
STEP_SECONDS = Metric(
    "lingbot_denoise_step_seconds",
    Kind.HISTOGRAM,
    "seconds",
    "Between two solver steps of a clip, by the clip's tokens rounded up to a power of two.",
    (SIZE,),
    _STEP_BUCKETS,
)
LOAD_SECONDS = Metric(
    "lingbot_load_seconds",
    Kind.GAUGE,
    "seconds",
    "How long a phase of this process' start took: meeting the other ranks, weights, first run.",
    (STAGE, Label("phase", ("rendezvous", "weights", "program", "compile", "warm_up"))),
)
CACHE_LOOKUPS = Metric(
    "lingbot_cache_lookups_total",
    Kind.COUNTER,
    "lookups",
    "Calls that a stage's cache could answer, by whether it did.",
    (STAGE, Label("result", ("hit", "miss"))),
)
TRANSFER_BYTES = Metric(
    "lingbot_transfer_bytes_total",
    Kind.COUNTER,
    "bytes",
    "Bytes of arrays and files handed from one stage to another.",
    (SOURCE, TARGET),
)
TRANSFER_SECONDS = Metric(
    "lingbot_transfer_seconds",
    Kind.HISTOGRAM,
    "seconds",
    "From the moment a result was ready in one process to its arrival in the next, by the clocks "
    "of both machines; into the denoiser, waiting for a place beside a gang is part of it.",
    (SOURCE, TARGET),
    _TRANSFER_BUCKETS,
)
BUILD_INFO = Metric(
    "lingbot_build_info",
    Kind.GAUGE,
    "info",
    "1 for every component that runs, with the version it runs.",
    (COMPONENT, VERSION, RAY_VERSION),
)
DENOISER_INFO = Metric(
    "lingbot_denoiser_info",
    Kind.GAUGE,
    "info",
    "1 for every gang, with what it chose or was told to use.",
    (
        Label("attention", ("auto", "flash_attn_3", "flash_attn", "cudnn", "sdpa")),
        Label("sharding", ("none", "per_expert", "per_block")),
        Label("cfg_parallel", ("true", "false")),
        Label("compiled", ("true", "false")),
        Label("dtype", ("float32", "bfloat16")),
        Label("ranks", pattern=r"\d{1,3}", limit=8),
    ),
)
