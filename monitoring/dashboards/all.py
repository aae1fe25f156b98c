"""All dashboards."""

from monitoring.dashboards import autoscaling, gangs, overview, queue, stages

DASHBOARDS = tuple(module.DASHBOARD for module in (overview, stages, gangs, queue, autoscaling))
