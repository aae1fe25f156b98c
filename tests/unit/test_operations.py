"""What the documents tell people to type exists."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from lingbot_serve.cli import app

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "k8s/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Folders of the repository that commands name; a path below one of them must exist.
FOLDERS = ("k8s", "examples", "docs", "benchmarks", "tests")
MADE_BY_COMMANDS = ("examples/checkpoint",)


def blocks(document: Path) -> Iterator[str]:
    """The lines of a document's fenced commands, continuations joined."""
    text = document.read_text()
    for kind, block in re.findall(r"^ *```(\w*)\n(.*?)^ *```", text, flags=re.M | re.S):
        if kind in ("", "bash", "sh"):
            yield from block.replace("\\\n", " ").splitlines()


def commands(document: Path) -> Iterator[list[str]]:
    """Each command of a document, and those in its running text, as words."""
    inline = re.findall(r"`((?:lingbot-serve|make|kubectl) [^`]+)`", document.read_text())
    for line in [*blocks(document), *inline]:
        for part in re.split(r" \| | && |; ", line.split(" #")[0]):
            words = shlex.split(part) if part.count('"') % 2 == part.count("'") % 2 == 0 else []
            if words:
                yield [words[0].rpartition("/")[2], *words[1:]]


def problem_of(words: list[str]) -> str | None:
    """What does not exist of a command; None if all does."""
    if words[0] == "lingbot-serve":
        return problem_of_ours(words[1:])
    if words[0] == "make" and len(words) > 1:
        missing = {w for w in words[1:] if "=" not in w} - make_targets()
        return f"make has no {', '.join(missing)}" if missing else None
    return None


def problem_of_ours(words: list[str]) -> str | None:
    command = typer.main.get_command(app)
    while (below := getattr(command, "commands", None)) and words and words[0][0] != "-":
        names = words[0].split("|")
        if missing := [name for name in names if name not in below]:
            return f"lingbot-serve has no {missing[0]}"
        command, words = below[names[0]], words[1:]
    known = {opt for p in command.params for opt in (*p.opts, *p.secondary_opts)} | {"--help"}
    options = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    unknown = options - known
    return f"{command.name} has no {', '.join(sorted(unknown))}" if unknown else None


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), flags=re.M))


def missing_paths(words: list[str]) -> list[str]:
    paths = [w.rstrip(".,") for w in words if re.match(rf"({'|'.join(FOLDERS)})/[\w/.-]+$", w)]
    return [p for p in paths if not (ROOT / p).exists() and p not in MADE_BY_COMMANDS]


def ids(document: Path) -> str:
    return str(document.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_commands_exist(document: Path) -> None:
    problems = [f"{' '.join(w)}: {p}" for w in commands(document) if (p := problem_of(w))]
    assert problems == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_paths_exist(document: Path) -> None:
    named = [word for words in commands(document) for word in missing_paths(words)]
    assert named == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (document.parent / link).exists()] == []


def test_the_operations_guide_names_commands_at_all() -> None:
    """Were the extraction broken, the tests above would find nothing wrong."""
    words = list(commands(ROOT / "docs/operations.md"))
    assert len([w for w in words if w[0] == "lingbot-serve"]) >= 8
    assert len([w for w in words if w[0] == "kubectl"]) >= 8


def test_every_runbook_is_linked_from_the_operations_guide() -> None:
    guide = (ROOT / "docs/operations.md").read_text()
    runbooks = sorted((ROOT / "docs/runbooks").glob("*.md"))
    assert [path.name for path in runbooks if f"(runbooks/{path.name})" not in guide] == []


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("lingbot-serve models push", "has no push"),
        ("lingbot-serve serve --checkpont x", "serve has no --checkpont"),
        ("lingbot-serve models pull x --nowhere=1", "pull has no --nowhere"),
        ("make everything", "make has no everything"),
    ],
)
def test_a_command_that_does_not_exist_is_noticed(command: str, problem: str) -> None:
    assert problem in (problem_of(command.split()) or "")


def test_a_path_that_does_not_exist_is_noticed() -> None:
    assert missing_paths(["kubectl", "apply", "-k", "k8s/overlays/moon"]) == ["k8s/overlays/moon"]
