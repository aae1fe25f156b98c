"""What a metric is: name, type, unit, labels with the values they may take, meaning. Pure data."""

import re
from dataclasses import dataclass
from enum import Enum

# Stands in for a value that a label does not admit, so that series stay bounded whatever happens.
OTHER = "other"


class Kind(str, Enum):
    """Prometheus' metric types, as far as they are used here."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Exporter(str, Enum):
    """Who exports a metric.

    RAY: any process, through the metrics agent of its node, which adds the prefix `ray_`.
    GATEWAY: the gateway's own `/metrics`, for what every gateway reads alike from the store.
    """

    RAY = "ray"
    GATEWAY = "gateway"


@dataclass(frozen=True, slots=True)
class Label:
    """A label and the values it may take: a list of them, or a pattern and how many there may be.

    Args:
        name: Of the label.
        values: All values, where they are known beforehand.
        pattern: Regular expression of the whole value, where they are not.
        limit: Most values that the pattern stands for in the largest cluster meant.
    """

    name: str
    values: tuple[str, ...] = ()
    pattern: str = ""
    limit: int = 0

    @property
    def num_values(self) -> int:
        """Most values there can be, `OTHER` included."""
        return (len(self.values) or self.limit) + 1

    def clean(self, value: str) -> str:
        """The value, or `OTHER` where the label does not admit it."""
        known = re.fullmatch(self.pattern, value) if self.pattern else value in self.values
        return value if known else OTHER


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Args:
        name: With the project's prefix and the unit; a counter's ends in `_total`.
        kind: Counter, gauge or histogram.
        unit: Base unit, or what is counted.
        meaning: One sentence for whoever reads a dashboard.
        labels: Which labels it has; none ever holds an id or text of a user.
        buckets: Upper bounds of a histogram, without infinity.
        exporter: Who exports it.
    """

    name: str
    kind: Kind
    unit: str
    meaning: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()
    exporter: Exporter = Exporter.RAY

    @property
    def exported_name(self) -> str:
        """As Prometheus knows it; Ray puts its own prefix before every name."""
        return f"ray_{self.name}" if self.exporter is Exporter.RAY else self.name

    @property
    def series_names(self) -> tuple[str, ...]:
        """Names of its series: a histogram has three kinds of them."""
        if self.kind is not Kind.HISTOGRAM:
            return (self.exported_name,)
        return tuple(f"{self.exported_name}_{part}" for part in ("bucket", "count", "sum"))

    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)

    @property
    def max_series(self) -> int:
        """Most series there can be of it in one process."""
        series = len(self.buckets) + 3 if self.kind is Kind.HISTOGRAM else 1
        for label in self.labels:
            series *= label.num_values
        return series
