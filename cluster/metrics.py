"""Binds the registry to Ray's metrics: a call here is exported by the metrics agent of the node.

Processes of a gang come and go, and Ray's agent is scraped once per node whatever runs there.
A call costs microseconds, takes no lock of ours (gauges do) and never fails a job: a label value
that the registry does not know becomes `other`. Without Ray, calls go nowhere.
"""

import contextlib
import functools
import itertools
import sys
import threading
import time
from collections.abc import Iterator

from ray.util.metrics import Counter, Gauge, Histogram

from monitoring.metric import Kind, Metric

# Ray forgets a gauge that was not set within two export intervals, of one second at least.
_REFRESH_S = 0.5

# Ray refuses to add 0; this is lost in the first real addition.
_ALMOST_ZERO = sys.float_info.min

_Values = dict[tuple[str, ...], float]


def count(metric: Metric, amount: float = 1.0, **labels: str) -> None:
    """Adds to a counter.

    Args:
        metric: The counter.
        amount: Nothing happens at 0 or below.
        labels: A value for each of its labels.
    """
    if amount > 0:
        _counter(metric).inc(amount, _tags(metric, labels))


def observe(metric: Metric, value: float, **labels: str) -> None:
    """Puts a value into a histogram.

    Args:
        metric: The histogram.
        value: Clocks of two machines can make it negative; it counts as 0 then.
        labels: A value for each of its labels.
    """
    _histogram(metric).observe(max(0.0, value), _tags(metric, labels))


def set_gauge(metric: Metric, value: float, **labels: str) -> None:
    """Sets a gauge, which keeps the value until it is set again or this process ends."""
    _gauges.set(metric, value, _tags(metric, labels))


def clear_gauge(metric: Metric) -> None:
    """Forgets every value of a gauge in this process."""
    _gauges.clear(metric)


def declare(metric: Metric, **labels: str) -> None:
    """Makes a counter's series begin at 0, for all values of the labels that are not given.

    Prometheus sees no growth in a series that appears with its first event, and a process may
    live for one event only.
    """
    free = [label for label in metric.labels if label.name not in labels]
    for values in itertools.product(*(label.values for label in free)):
        chosen = dict(zip((label.name for label in free), values, strict=True))
        count(metric, _ALMOST_ZERO, **labels, **chosen)


@contextlib.contextmanager
def timed(metric: Metric, **labels: str) -> Iterator[None]:
    """Sets a gauge to the time that a block took; one that raises leaves it alone."""
    start_s = time.perf_counter()
    yield
    set_gauge(metric, time.perf_counter() - start_s, **labels)


def _tags(metric: Metric, labels: dict[str, str]) -> dict[str, str]:
    # A label that is missing is a fault of the caller's code; Ray would say so as well.
    assert labels.keys() == set(metric.label_names), f"{metric.name} has {metric.label_names}"
    return {label.name: label.clean(labels[label.name]) for label in metric.labels}


@functools.cache
def _counter(metric: Metric) -> Counter:
    assert metric.kind is Kind.COUNTER, metric.name
    return Counter(metric.name, metric.meaning, metric.label_names)


@functools.cache
def _histogram(metric: Metric) -> Histogram:
    assert metric.kind is Kind.HISTOGRAM, metric.name
    return Histogram(metric.name, metric.meaning, list(metric.buckets), metric.label_names)


class _Gauges:
    """Sets every gauge again and again, from one thread per process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[Metric, _Values] = {}
        self._instruments: dict[Metric, Gauge] = {}
        self._thread: threading.Thread | None = None

    def set(self, metric: Metric, value: float, tags: dict[str, str]) -> None:
        assert metric.kind is Kind.GAUGE, metric.name
        with self._lock:
            if metric not in self._instruments:
                self._instruments[metric] = Gauge(metric.name, metric.meaning, metric.label_names)
            self._values.setdefault(metric, {})[tuple(tags.values())] = value
            self._instruments[metric].set(value, tags)
            if self._thread is None:
                self._thread = threading.Thread(target=self._refresh, name="gauges", daemon=True)
                self._thread.start()

    def clear(self, metric: Metric) -> None:
        with self._lock:
            self._values.pop(metric, None)

    def _refresh(self) -> None:
        while True:
            time.sleep(_REFRESH_S)
            with self._lock:
                for metric, values in self._values.items():
                    for labels, value in values.items():
                        tags = dict(zip(metric.label_names, labels, strict=True))
                        self._instruments[metric].set(value, tags)


_gauges = _Gauges()
