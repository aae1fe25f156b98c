"""All metrics of the project. Whatever is exported is listed here, whatever is listed is exported.

A metric is a constant of `monitoring.jobs`, `stages`, `gangs` or `scaling`, which is where new
ones go; dashboards, rules, documentation and tests start from the list made here.
"""

from types import ModuleType

from monitoring import gangs, jobs, scaling, stages
from monitoring.metric import Metric


def _metrics_of(module: ModuleType) -> tuple[Metric, ...]:
    return tuple(value for value in vars(module).values() if isinstance(value, Metric))


METRICS: tuple[Metric, ...] = tuple(
    metric for module in (jobs, stages, gangs, scaling) for metric in _metrics_of(module)
)

# Which metric a series of Prometheus belongs to.
METRIC_OF_SERIES: dict[str, Metric] = {
    name: metric for metric in METRICS for name in metric.series_names
}
