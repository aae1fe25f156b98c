"""What the autoscaling policy sees, wants and gets."""

from monitoring import gangs, jobs, scaling
from monitoring.dashboards.panel import Dashboard, Panel, Query, Row
from monitoring.promql import increase, latest, rate, ratio

_WANTED = latest(scaling.AUTOSCALING_REPLICAS, "stage", how="max", kind="target")
_CURRENT = latest(scaling.AUTOSCALING_REPLICAS, "stage", how="max", kind="current")

_REPLICAS = Row(
    "Replicas",
    (
        Panel("Wanted", (Query(_WANTED, "{{stage}}"),)),
        Panel("Running", (Query(_CURRENT, "{{stage}}"),)),
        Panel(
            "Missing",
            (Query(f"{_WANTED} - {_CURRENT}", "{{stage}}"),),
            description="Above 0: starting, or the cluster has no room.",
        ),
    ),
)
_WHY = Row(
    "Why",
    (
        Panel(
            "Predicted work",
            (Query(latest(scaling.AUTOSCALING_WORK, "stage", how="max"), "{{stage}}"),),
            unit="s",
        ),
        Panel(
            "Decisions to change, by reason",
            (
                Query(
                    increase(
                        scaling.AUTOSCALING_DECISIONS,
                        "stage",
                        "direction",
                        "reason",
                        direction="up|down",
                    ),
                    "{{stage}} {{direction}}: {{reason}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "All decisions per minute, by reason",
            (
                Query(
                    f"60 * {rate(scaling.AUTOSCALING_DECISIONS, 'stage', 'reason')}",
                    "{{stage}}: {{reason}}",
                ),
            ),
            unit="opm",
            stacked=True,
        ),
    ),
)
_EFFECT = Row(
    "Effect",
    (
        Panel("Jobs waiting", (Query(latest(jobs.QUEUE_JOBS), "jobs"),)),
        Panel(
            "Oldest job",
            (Query(latest(jobs.QUEUE_OLDEST_SECONDS, how="max"), "oldest"),),
            unit="s",
        ),
        Panel(
            "Gangs at work",
            (
                Query(
                    ratio(latest(gangs.GANG_STATE, state="running"), latest(gangs.GANG_STATE)),
                    "busy share",
                ),
            ),
            unit="percentunit",
        ),
    ),
)

DASHBOARD = Dashboard(
    "lingbot-autoscaling",
    "LingBot / Autoscaling",
    "What does the policy see, want and get?",
    (_REPLICAS, _WHY, _EFFECT),
)
