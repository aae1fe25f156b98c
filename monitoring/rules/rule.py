"""Recording rules and alerts as Prometheus takes them. Pure."""

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """An expression under a name of its own.

    Args:
        name: `lingbot:what:how`; only recorded names have colons.
        expression: PromQL.
        labels: To add to the result.
    """

    name: str
    expression: str
    labels: tuple[tuple[str, str], ...] = ()

    def render(self) -> Json:
        """As a rule in a file of Prometheus."""
        labels = {"labels": dict(self.labels)} if self.labels else {}
        return {"record": self.name, "expr": self.expression, **labels}


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert.

    Its expression is a condition over signals. Only a firing alert's expression returns data, so
    the signals are kept apart: they return data whenever the service runs.

    Args:
        name: CamelCase; also the name of its runbook.
        condition: PromQL with the names of the signals in braces.
        signals: What the condition compares.
        wait: For how long it must hold; Prometheus' spelling.
        severity: `page` wakes somebody, `ticket` waits for the morning.
        summary: One line; may use Prometheus' templates.
    """

    name: str
    condition: str
    signals: dict[str, str] = field(hash=False)
    wait: str
    severity: str
    summary: str

    @property
    def expression(self) -> str:
        """The whole PromQL."""
        return self.condition.format(**self.signals)

    def render(self, runbooks: str) -> Json:
        """As a rule in a file of Prometheus.

        Args:
            runbooks: Address of the folder of runbooks.
        """
        return {
            "alert": self.name,
            "expr": self.expression,
            "for": self.wait,
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "runbook_url": f"{runbooks}/{self.name}.md",
            },
        }


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated together, in order."""

    name: str
    rules: tuple[Record | Alert, ...]

    def render(self, runbooks: str) -> Json:
        """As a group in a file of Prometheus."""
        rules = [
            rule.render(runbooks) if isinstance(rule, Alert) else rule.render()
            for rule in self.rules
        ]
        return {"name": self.name, "rules": rules}
