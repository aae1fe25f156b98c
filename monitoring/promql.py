"""Expressions of PromQL over the registry's metrics, so that a query cannot name what is not there.

Ray adds labels of its own, among them one per process, so every expression aggregates. The sum of
one of Ray's histograms is only approximate (its agent records every value as the middle of its
bucket), so there is no function for means here: totals that matter have counters.
"""

from monitoring.metric import Exporter, Kind, Metric

# Grafana puts a window here that fits the zoom and the scrape interval.
ZOOM = "$__rate_interval"


def latest(metric: Metric, *by: str, how: str = "sum", **equal: str) -> str:
    """The present value of a gauge.

    Args:
        metric: A gauge.
        by: Labels to keep.
        how: The aggregation: sum, max, min or count.
        equal: Regular expressions for labels' values.
    """
    assert metric.kind is Kind.GAUGE, metric.name
    selector = f"{metric.exported_name}{_matchers(metric, equal)}"
    if metric.exporter is Exporter.GATEWAY:
        # Every HTTP proxy passes the same gateway's answer on.
        selector = f"max{_by(metric, metric.label_names)} ({selector})"
    return f"{how}{_by(metric, by)} ({selector})"


def rate(metric: Metric, *by: str, window: str = ZOOM, **equal: str) -> str:
    """How fast a counter, or a histogram's count, grows per second."""
    return f"sum{_by(metric, by)} (rate({_counter(metric)}{_matchers(metric, equal)}[{window}]))"


def increase(metric: Metric, *by: str, window: str = ZOOM, **equal: str) -> str:
    """How much a counter, or a histogram's count, grew within a window."""
    selector = f"{_counter(metric)}{_matchers(metric, equal)}"
    return f"sum{_by(metric, by)} (increase({selector}[{window}]))"


def quantile(share: float, metric: Metric, *by: str, window: str = ZOOM, **equal: str) -> str:
    """A quantile of a histogram within a window.

    Args:
        share: 0 to 1.
        metric: A histogram.
        by: Labels to keep.
        window: Of the values that count.
        equal: Regular expressions for labels' values.
    """
    assert metric.kind is Kind.HISTOGRAM, metric.name
    _by(metric, by)
    selector = f"{metric.exported_name}_bucket{_matchers(metric, equal)}"
    labels = ", ".join(("le", *by))
    return f"histogram_quantile({share:g}, sum by ({labels}) (rate({selector}[{window}])))"


def share(metric: Metric, *by: str, window: str = ZOOM, **equal: str) -> str:
    """Which share of a counter's growth has the given labels; 0, not unknown, where none has."""
    part = increase(metric, *by, window=window, **equal)
    whole = increase(metric, *by, window=window)
    return ratio(f"({part} or 0 * {whole})", whole)


def ratio(part: str, whole: str) -> str:
    """One expression over another of the same labels; no value where nothing happened."""
    return f"{part} / ({whole} > 0)"


def _counter(metric: Metric) -> str:
    assert metric.kind is not Kind.GAUGE, metric.name
    return (
        f"{metric.exported_name}_count" if metric.kind is Kind.HISTOGRAM else metric.exported_name
    )


def _by(metric: Metric, labels: tuple[str, ...]) -> str:
    assert set(labels) <= set(metric.label_names), f"{metric.name} has {metric.label_names}"
    return f" by ({', '.join(labels)})" if labels else ""


def _matchers(metric: Metric, equal: dict[str, str]) -> str:
    _by(metric, tuple(equal))
    if not equal:
        return ""
    return "{" + ", ".join(f'{name}=~"{value}"' for name, value in equal.items()) + "}"
