"""The events that the documentation lists are those that the code logs."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEVELS = {"info", "warning", "error", "exception"}
EVENT = re.compile(r"[a-z]+(_[a-z]+)+")


def logged() -> set[str]:
    """First arguments of the calls of structured loggers."""
    return {
        node.args[0].value
        for folder in ("cluster", "deployments")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in LEVELS
        and not isinstance(node.func.value, ast.Call)  # getLogger(...): in Serve's own files
        and node.args
        and isinstance(node.args[0], ast.Constant)
    }


def test_every_event_has_a_row_and_every_row_an_event() -> None:
    page = (ROOT / "docs/logging.md").read_text()
    table = page.partition("### Events")[2].partition("## Traces")[0]
    listed = re.findall(r"^\| `([a-z_]+)` \|", table, flags=re.M)
    assert len(listed) == len(set(listed))
    assert set(listed) == logged(), "docs/logging.md lists all events"


def test_events_are_names_not_sentences() -> None:
    assert all(map(EVENT.fullmatch, logged()))
    assert len(logged()) > 20
