"""Service level objectives and the alerts on how fast their error budgets burn.

Windows and factors are those of the Site Reliability Workbook, chapter 5 (multi-window,
multi-burn-rate alerts): a page at 2 % of a 30 days' budget within an hour or 5 % within six, a
ticket at 10 % within three days. They assume steady traffic. A video service may see a few jobs an
hour, where one miss is a large share, so an alert also wants a number of misses; and the canary
makes sure that there are jobs at all.
"""

from dataclasses import dataclass

from monitoring.jobs import SLO_JOBS
from monitoring.promql import increase, share
from monitoring.rules.rule import Alert, Group, Record

WINDOWS = ("5m", "30m", "1h", "6h", "3d")
_FEWEST_MISSES = 3


@dataclass(frozen=True, slots=True)
class Objective:
    """One promise.

    Args:
        name: Value of the label `objective`.
        target: Share of the jobs for which it is to hold.
        meaning: In words.
    """

    name: str
    target: float
    meaning: str


@dataclass(frozen=True, slots=True)
class Burn:
    """How fast is too fast: above `factor` times the even pace within both windows."""

    name: str
    short: str
    long: str
    factor: float
    wait: str
    severity: str


OBJECTIVES = (
    Objective(
        "completed", 0.995, "An accepted job ends with a video unless its client cancels it."
    ),
    Objective("wait", 0.95, "A job is handed to the pipeline within `wait_objective_s`."),
    Objective("deadline", 0.95, "A job with `deadline_s` is completed by then."),
)
BURNS = (
    Burn("Fast", "5m", "1h", 14.4, "2m", "page"),
    Burn("Medium", "30m", "6h", 6.0, "15m", "page"),
    Burn("Slow", "6h", "3d", 1.0, "1h", "ticket"),
)


def misses_name(window: str) -> str:
    """The recorded share of jobs that missed an objective within a window."""
    return f"lingbot:slo_misses:ratio_rate{window}"


def _misses(window: str) -> Record:
    return Record(
        misses_name(window), share(SLO_JOBS, "objective", window=window, attained="false")
    )


def _target(objective: Objective) -> Record:
    labels = (("objective", objective.name),)
    return Record("lingbot:slo_target:ratio", f"vector({objective.target:g})", labels)


def _burn(burn: Burn) -> Alert:
    budget = f"{burn.factor:g} * (1 - lingbot:slo_target:ratio)"
    return Alert(
        name=f"LingbotBudgetBurn{burn.name}",
        condition="{short} > on (objective) {budget} and on (objective) {long} > on (objective) "
        f"{{budget}} and on (objective) {{misses}} >= {_FEWEST_MISSES}",
        signals={
            "short": misses_name(burn.short),
            "long": misses_name(burn.long),
            "budget": budget,
            "misses": increase(SLO_JOBS, "objective", window=burn.long, attained="false"),
        },
        wait=burn.wait,
        severity=burn.severity,
        summary=f"The error budget of {{{{ $labels.objective }}}} burns {burn.factor:g} times too "
        f"fast ({burn.short} and {burn.long}).",
    )


GROUPS = (
    Group(
        "lingbot-objectives",
        (*map(_target, OBJECTIVES), *map(_misses, WINDOWS)),
    ),
    Group("lingbot-budgets", tuple(map(_burn, BURNS))),
)
