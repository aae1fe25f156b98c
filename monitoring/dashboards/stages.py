"""Where a clip's time goes, stage by stage."""

from monitoring import stages
from monitoring.dashboards.panel import Dashboard, Panel, Query, Row
from monitoring.promql import latest, quantile, rate, share

_TIMES = Row(
    "Time in the stages",
    (
        Panel(
            "Clips in each stage",
            (Query(rate(stages.STAGE_BUSY_SECONDS, "stage"), "{{stage}}"),),
            stacked=True,
            description="Mean number of clips in a stage, those that wait for it included, booked "
            "when a stage ends.",
            width=12,
        ),
        Panel(
            "Clips per minute through each stage",
            (Query(f"60 * {rate(stages.STAGE_SECONDS, 'stage')}", "{{stage}}"),),
            unit="opm",
            width=12,
        ),
        Panel(
            "Stage, median",
            (Query(quantile(0.5, stages.STAGE_SECONDS, "stage"), "{{stage}}"),),
            unit="s",
            width=12,
        ),
        Panel(
            "Stage, p95",
            (Query(quantile(0.95, stages.STAGE_SECONDS, "stage"), "{{stage}}"),),
            unit="s",
            width=12,
        ),
    ),
)
_STEPS = Row(
    "Denoise steps",
    (
        Panel(
            "Step by clip size, median",
            (Query(quantile(0.5, stages.STEP_SECONDS, "size"), "{{size}} tokens"),),
            unit="s",
            description="832x480x81 is 32k tokens, 1280x720x81 is 128k.",
        ),
        Panel(
            "Step by clip size, p95",
            (Query(quantile(0.95, stages.STEP_SECONDS, "size"), "{{size}} tokens"),),
            unit="s",
        ),
        Panel(
            "Steps per second by clip size",
            (Query(rate(stages.STEP_SECONDS, "size"), "{{size}} tokens"),),
            stacked=True,
        ),
    ),
)
_HAND_OVER = Row(
    "Between the stages",
    (
        Panel(
            "Bytes per second",
            (Query(rate(stages.TRANSFER_BYTES, "source", "target"), "{{source}} to {{target}}"),),
            unit="Bps",
        ),
        Panel(
            "Hand-over, p95",
            (
                Query(
                    quantile(0.95, stages.TRANSFER_SECONDS, "source", "target"),
                    "{{source}} to {{target}}",
                ),
            ),
            unit="s",
            description="Into the denoiser, waiting for a place beside a gang is part of it.",
        ),
        Panel(
            "Lookups that a cache answered",
            (Query(share(stages.CACHE_LOOKUPS, "stage", result="hit"), "{{stage}}"),),
            unit="percentunit",
        ),
    ),
)
_STARTS = Row(
    "Starts",
    (
        Panel(
            "Phases of the longest start",
            (
                Query(
                    latest(stages.LOAD_SECONDS, "stage", "phase", how="max"), "{{stage}} {{phase}}"
                ),
            ),
            kind="bargauge",
            unit="s",
            width=24,
        ),
    ),
)

DASHBOARD = Dashboard(
    "lingbot-stages",
    "LingBot / Stages",
    "Where does a clip's time go?",
    (_TIMES, _STEPS, _HAND_OVER, _STARTS),
)
