"""The one to look at first: does it work, how long do people wait, what is wasted."""

from monitoring import gangs, jobs, stages
from monitoring.dashboards.panel import Dashboard, Panel, Query, Row
from monitoring.promql import increase, latest, quantile, rate, ratio
from monitoring.rules.alerts import WASTE

_DONE = increase(jobs.JOBS, window="1h", outcome="completed")
_ENDED = increase(jobs.JOBS, window="1h", outcome="completed|failed")

_NOW = Row(
    "Now",
    (
        Panel(
            "Ready",
            (Query(latest(jobs.READY, how="max")),),
            kind="stat",
            description="1 where a video can be made now.",
            width=4,
            height=4,
        ),
        Panel(
            "Gangs that serve",
            (Query(latest(gangs.GANG_STATE, state="idle|running")),),
            kind="stat",
            width=4,
            height=4,
        ),
        Panel(
            "Jobs waiting",
            (Query(latest(jobs.QUEUE_JOBS)),),
            kind="stat",
            width=4,
            height=4,
            thresholds=((20, "orange"), (50, "red")),
        ),
        Panel(
            "Oldest wait",
            (Query(latest(jobs.QUEUE_OLDEST_SECONDS, how="max")),),
            kind="stat",
            unit="s",
            width=4,
            height=4,
            thresholds=((600, "orange"), (1800, "red")),
        ),
        Panel(
            "Completed of ended jobs, 1 h",
            (Query(ratio(_DONE, _ENDED)),),
            kind="stat",
            unit="percentunit",
            description="Cancelled jobs do not count.",
            width=4,
            height=4,
        ),
        Panel(
            "Since the last canary",
            (Query(f"time() - {latest(jobs.CANARY_SUCCESS_TIME, how='max')}"),),
            kind="stat",
            unit="s",
            width=4,
            height=4,
            thresholds=((900, "orange"), (1800, "red")),
        ),
    ),
)
_JOBS = Row(
    "Jobs",
    (
        Panel(
            "Ended jobs by outcome",
            (Query(f"60 * {rate(jobs.JOBS, 'outcome')}", "{{outcome}}"),),
            unit="opm",
            stacked=True,
        ),
        Panel(
            "Wait",
            (
                Query(quantile(0.5, jobs.JOB_WAIT_SECONDS), "p50"),
                Query(quantile(0.95, jobs.JOB_WAIT_SECONDS), "p95"),
            ),
            unit="s",
            description="From acceptance to the pipeline.",
        ),
        Panel(
            "Acceptance to video",
            (
                Query(quantile(0.5, jobs.JOB_SECONDS, outcome="completed"), "p50"),
                Query(quantile(0.95, jobs.JOB_SECONDS, outcome="completed"), "p95"),
            ),
            unit="s",
        ),
        Panel(
            "Failed and cancelled jobs by code",
            (Query(increase(jobs.JOB_FAILURES, "code"), "{{code}}"),),
            stacked=True,
            description="The codes of the API's errors.",
        ),
        Panel(
            "Failed attempts that are followed by another, by code",
            (Query(increase(jobs.JOB_RETRIES, "code"), "{{code}}"),),
            stacked=True,
        ),
        Panel(
            "Refused requests by code",
            (Query(increase(jobs.JOBS_REFUSED, "code"), "{{code}}"),),
            stacked=True,
        ),
        Panel(
            "Jobs in the pipeline",
            (Query(latest(jobs.RUNNING_JOBS, "job_class"), "{{job_class}}"),),
            stacked=True,
        ),
    ),
)
_OUTPUT = Row(
    "Output and what it costs",
    (
        Panel(
            "Seconds of video per second",
            (Query(rate(jobs.VIDEO_SECONDS), "video seconds"),),
            description="1 is one video in real time.",
        ),
        Panel("Frames per second", (Query(rate(jobs.FRAMES), "frames"),)),
        Panel(
            "GPUs at work, by what became of the clip",
            (Query(rate(gangs.GPU_SECONDS, "outcome"), "{{outcome}}"),),
            stacked=True,
            description="GPU-seconds per second, booked when a clip ends.",
        ),
        Panel(
            "GPU-seconds per second of video",
            (Query(ratio(rate(gangs.GPU_SECONDS), rate(jobs.VIDEO_SECONDS)), "GPU-seconds"),),
        ),
        Panel("Wasted share of the gangs' work, 1 h", (Query(WASTE, "waste"),), unit="percentunit"),
        Panel(
            "Versions",
            (Query(latest(stages.BUILD_INFO, "component", "version", "ray", how="count")),),
            kind="table",
            description="Processes per component and version.",
        ),
    ),
)

DASHBOARD = Dashboard(
    "lingbot-overview",
    "LingBot / Overview",
    "Does it work, how long do people wait, what is wasted?",
    (_NOW, _JOBS, _OUTPUT),
)
