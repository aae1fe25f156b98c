"""Each guarantee of docs/security.md has tests, and they exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
GUARANTEES = PAGE.split("## What we guarantee")[1].split("\n## ")[0]
ROWS = [line for line in GUARANTEES.splitlines() if line.startswith("| ")][1:]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def test_the_page_has_rows() -> None:
    assert len(ROWS) > 15


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[2].strip()[:40])
def test_every_guarantee_has_tests_that_exist(row: str) -> None:
    tests = NAMED.findall(row)
    assert tests
    for file, name in tests:
        tree = ast.parse((ROOT / file).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
