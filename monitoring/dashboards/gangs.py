"""Gangs and their ranks: who works, who lags, who died of what."""

from monitoring import gangs, stages
from monitoring.dashboards.panel import Dashboard, Panel, Query, Row
from monitoring.promql import increase, latest, quantile, rate, ratio
from monitoring.rules.alerts import SKEW

_CHOSEN = {"gang": "$gang"}
_STATES = {"starting": 1, "idle": 2, "running": 3, "healing": 4, "dead": 5}


def _state() -> str:
    """One number per gang, since a state timeline has one row per series."""
    parts = [
        f"{number} * {latest(gangs.GANG_STATE, 'gang', how='max', state=state, **_CHOSEN)}"
        for state, number in _STATES.items()
    ]
    return " + ".join(parts)


_HEAL = ratio(
    increase(gangs.GANG_HEAL_SECONDS, "cause", window="1h"),
    increase(gangs.GANG_RESTARTS, "cause", window="1h"),
)
_LIVES = Row(
    "Gangs",
    (
        Panel(
            "Gangs by state",
            (Query(latest(gangs.GANG_STATE, "state"), "{{state}}"),),
            stacked=True,
        ),
        Panel(
            "State of each gang",
            (Query(_state(), "gang {{gang}}"),),
            kind="state-timeline",
            description=", ".join(f"{number} {state}" for state, number in _STATES.items()),
            width=16,
            thresholds=((2, "blue"), (3, "green"), (4, "orange"), (5, "red")),
        ),
        Panel(
            "Restarts by cause",
            (
                Query(
                    increase(gangs.GANG_RESTARTS, "gang", "cause", **_CHOSEN),
                    "gang {{gang}} {{cause}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "Time to heal, mean of the last hour",
            (Query(_HEAL, "{{cause}}"),),
            unit="s",
        ),
        Panel(
            "Start of each gang",
            (
                Query(
                    latest(gangs.GANG_START_SECONDS, "gang", how="max", **_CHOSEN), "gang {{gang}}"
                ),
            ),
            unit="s",
        ),
        Panel(
            "Cancel to free ranks",
            (
                Query(quantile(0.5, gangs.CANCEL_SECONDS, window="1h"), "p50"),
                Query(quantile(0.95, gangs.CANCEL_SECONDS, window="1h"), "p95"),
            ),
            unit="s",
            description="Within the last hour.",
        ),
        Panel(
            "Encoded clips that wait beside each gang",
            (Query(latest(gangs.GANG_QUEUED_JOBS, "gang", **_CHOSEN), "gang {{gang}}"),),
        ),
        Panel(
            "Wait beside a gang",
            (
                Query(quantile(0.5, gangs.GANG_WAIT_SECONDS), "p50"),
                Query(quantile(0.95, gangs.GANG_WAIT_SECONDS), "p95"),
            ),
            unit="s",
        ),
        Panel(
            "What the gangs chose",
            (Query(latest(stages.DENOISER_INFO, *stages.DENOISER_INFO.label_names)),),
            kind="table",
        ),
    ),
)
_LABELS = ("gang", "rank")
_LEGEND = "gang {{gang}} rank {{rank}}"
_STEPS = rate(gangs.RANK_STEPS, *_LABELS, **_CHOSEN)
_RANKS = Row(
    "Ranks",
    (
        Panel("Steps per second", (Query(_STEPS, _LEGEND),)),
        Panel(
            "Step, mean",
            (Query(ratio(rate(gangs.RANK_STEP_SECONDS, *_LABELS, **_CHOSEN), _STEPS), _LEGEND),),
            unit="s",
            description="From one step boundary to the next, by each rank's own clock.",
        ),
        Panel(
            "Skew of the ranks",
            (Query(SKEW, "gang {{gang}}"),),
            unit="percentunit",
            description="How much of the slowest rank's step the fastest did not need.",
        ),
        Panel(
            "Wait at a step boundary, mean",
            (Query(ratio(rate(gangs.RANK_WAIT_SECONDS, *_LABELS, **_CHOSEN), _STEPS), _LEGEND),),
            unit="s",
            description="A rank that waits longer than the others is ahead of rank 0.",
        ),
        Panel(
            "Most memory held",
            (Query(latest(gangs.RANK_MEMORY, *_LABELS, how="max", **_CHOSEN), _LEGEND),),
            unit="bytes",
        ),
    ),
)

DASHBOARD = Dashboard(
    "lingbot-gangs",
    "LingBot / Gangs and ranks",
    "Who works, who lags, who died of what?",
    (_LIVES, _RANKS),
    variables=(("gang", gangs.GANG_STATE.exported_name),),
)
