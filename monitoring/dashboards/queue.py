"""The queue and the promises made about it."""

from monitoring import jobs
from monitoring.dashboards.panel import Dashboard, Panel, Query, Row
from monitoring.promql import latest, quantile, rate, share
from monitoring.rules.objectives import WINDOWS, misses_name

_CLASS = "{{job_class}}"
_CLASS_AND_PRIORITY = "{{job_class}} {{priority}}"
_OBJECTIVE = "{{objective}}"

_QUEUE = Row(
    "Queue",
    (
        Panel(
            "Jobs waiting",
            (Query(latest(jobs.QUEUE_JOBS, "job_class", "priority"), _CLASS_AND_PRIORITY),),
            stacked=True,
        ),
        Panel(
            "Oldest job",
            (
                Query(
                    latest(jobs.QUEUE_OLDEST_SECONDS, "job_class", "priority", how="max"),
                    _CLASS_AND_PRIORITY,
                ),
            ),
            unit="s",
        ),
        Panel(
            "Handed to the pipeline per minute",
            (Query(f"60 * {rate(jobs.JOB_WAIT_SECONDS, 'job_class')}", _CLASS),),
            unit="opm",
        ),
        Panel(
            "Wait, median",
            (Query(quantile(0.5, jobs.JOB_WAIT_SECONDS, "job_class"), _CLASS),),
            unit="s",
        ),
        Panel(
            "Wait, p95",
            (Query(quantile(0.95, jobs.JOB_WAIT_SECONDS, "job_class"), _CLASS),),
            unit="s",
        ),
        Panel(
            "Acceptance to end, p95",
            (
                Query(
                    quantile(0.95, jobs.JOB_SECONDS, "outcome", "job_class"),
                    "{{outcome}} {{job_class}}",
                ),
            ),
            unit="s",
        ),
    ),
)
_ATTAINED = share(jobs.SLO_JOBS, "objective", window="$__range", attained="true")
_PROMISES = Row(
    "Objectives",
    (
        Panel(
            "Attained in the time shown",
            (Query(_ATTAINED, _OBJECTIVE),),
            kind="stat",
            unit="percentunit",
            description="completed: not failed. wait: handed over within wait_objective_s. "
            "deadline: completed before deadline_s.",
        ),
        Panel(
            "Error budget left, 3 days",
            (
                Query(
                    f"1 - {misses_name('3d')} / on (objective) (1 - lingbot:slo_target:ratio)",
                    _OBJECTIVE,
                ),
            ),
            kind="stat",
            unit="percentunit",
            description="At the pace of the last three days: 1 untouched, 0 spent, "
            "below 0 overspent.",
        ),
        Panel(
            "Jobs that count, per minute",
            (Query(f"60 * {rate(jobs.SLO_JOBS, 'objective')}", _OBJECTIVE),),
            unit="opm",
        ),
        *(
            Panel(
                f"Burn rate, {window}",
                (
                    Query(
                        f"{misses_name(window)} / on (objective) (1 - lingbot:slo_target:ratio)",
                        _OBJECTIVE,
                    ),
                ),
                description="1 spends the budget evenly.",
            )
            for window in WINDOWS[:4]
        ),
        Panel(
            "Canary jobs by outcome",
            (Query(f"60 * {rate(jobs.JOBS, 'outcome', origin='canary')}", "{{outcome}}"),),
            unit="opm",
            stacked=True,
        ),
        Panel(
            "Jobs by who sent them",
            (Query(f"60 * {rate(jobs.JOBS, 'origin')}", "{{origin}}"),),
            unit="opm",
            stacked=True,
        ),
    ),
)

DASHBOARD = Dashboard(
    "lingbot-queue",
    "LingBot / Queue and objectives",
    "How long do jobs wait, and is what was promised kept?",
    (_QUEUE, _PROMISES),
)
