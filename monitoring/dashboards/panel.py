"""Grafana's JSON for the few kinds of panels that the dashboards use. Pure.

The fields are those of Grafana's dashboard model, schema 39 (Grafana 10.1 and later read it).
"""

from dataclasses import dataclass, field
from typing import Any

WIDTH = 24
_SCHEMA = 39
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Query:
    """One curve, or set of curves.

    Args:
        expression: PromQL.
        legend: Name of a curve, with labels in double braces.
    """

    expression: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Args:
        title: What it shows.
        queries: What it asks.
        kind: Grafana's name of the panel's type.
        unit: Grafana's name of the unit.
        description: How to read it.
        width: Of the 24 columns.
        height: In Grafana's rows.
        stacked: Whether the curves add up.
        thresholds: From which value on which colour, green below all.
    """

    title: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    unit: str = "short"
    description: str = ""
    width: int = 8
    height: int = 7
    stacked: bool = False
    thresholds: tuple[tuple[float, str], ...] = ()

    def render(self, number: int, x: int, y: int) -> Json:
        """This panel's JSON at a place."""
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": _DATASOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "targets": [_target(query, n, self.kind) for n, query in enumerate(self.queries)],
            "fieldConfig": {"defaults": self._defaults(), "overrides": []},
            "options": _options(self.kind),
        }

    def _defaults(self) -> Json:
        steps: list[Json] = [{"color": "green", "value": None}]
        steps += [{"color": colour, "value": value} for value, colour in self.thresholds]
        defaults: Json = {
            "unit": self.unit,
            "thresholds": {"mode": "absolute", "steps": steps},
            "noValue": "no data",
        }
        if self.kind == "timeseries":
            stacking = {"mode": "normal" if self.stacked else "none", "group": "A"}
            opacity = 40 if self.stacked else 8
            defaults["custom"] = {"fillOpacity": opacity, "stacking": stacking, "lineWidth": 1}
            defaults["min"] = 0
        return defaults


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and the panels under it, laid out from left to right."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard.

    Args:
        uid: Its stable name in Grafana.
        title: What people call it.
        description: What question it answers.
        rows: From top to bottom.
        variables: Labels to choose values of, with the series that has them.
    """

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
    variables: tuple[tuple[str, str], ...] = field(default=())

    @property
    def panels(self) -> tuple[Panel, ...]:
        return tuple(panel for row in self.rows for panel in row.panels)

    def render(self) -> Json:
        """The whole JSON, as Grafana's provisioning and its sidecar take it."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": ["lingbot-serve"],
            "schemaVersion": _SCHEMA,
            "editable": False,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": "now-3h", "to": "now"},
            "timezone": "browser",
            "templating": {"list": [_datasource(), *map(_variable, self.variables)]},
            "panels": _lay_out(self.rows),
        }


def _lay_out(rows: tuple[Row, ...]) -> list[Json]:
    laid: list[Json] = []
    y = 0
    for row in rows:
        place = {"x": 0, "y": y, "w": WIDTH, "h": 1}
        laid.append(
            {
                "id": len(laid) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": place,
                "panels": [],
            }
        )
        x, y, tallest = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > WIDTH:
                x, y, tallest = 0, y + tallest, 0
            laid.append(panel.render(len(laid) + 1, x, y))
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest
    return laid


def _target(query: Query, number: int, kind: str) -> Json:
    target: Json = {
        "refId": chr(ord("A") + number),
        "datasource": _DATASOURCE,
        "expr": query.expression,
        "legendFormat": query.legend or "__auto",
    }
    # A single value or a table shows what is; the others show how it came about.
    if kind in ("stat", "table", "bargauge"):
        target["instant"] = True
        target["format"] = "table" if kind == "table" else "time_series"
    return target


def _options(kind: str) -> Json:
    if kind == "timeseries":
        return {
            "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    if kind == "state-timeline":
        return {"showValue": "never", "mergeValues": True, "rowHeight": 0.8}
    if kind in ("stat", "bargauge"):
        return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "background"}
    return {}


def _datasource() -> Json:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Source"}


def _variable(variable: tuple[str, str]) -> Json:
    label, series = variable
    query = f"label_values({series}, {label})"
    return {
        "name": label,
        "type": "query",
        "datasource": _DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": label},
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "refresh": 2,
        "sort": 3,
        "current": {"text": "All", "value": "$__all"},
    }
