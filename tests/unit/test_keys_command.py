"""`lingbot-serve keys`, on a database of its own."""

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from deployments.jobs.database import open_database
from deployments.keys.secret import read_secret
from deployments.keys.store import KeyStore
from lingbot_serve.cli import app
from lingbot_serve.exit_codes import ExitCode


def run(url: str, *arguments: str) -> Any:
    result = CliRunner().invoke(app, ["keys", *arguments, "--database-url", url, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_key_from_its_making_to_its_end(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    new = run(
        url, "create", "studio", "--scope", "videos:read", "--expires", "90d",
        "--requests-per-minute", "60", "--max-priority", "normal",
    )  # fmt: skip
    assert (new["name"], new["scopes"], new["state"]) == ("studio", ["videos:read"], "valid")
    assert (new["requests_per_minute"], new["max_priority"]) == (60, "normal")
    assert new["expires_at"] - new["created_at"] > 89 * 86_400
    rotated = run(url, "rotate", new["id"], "--grace", "1h")
    store = KeyStore(open_database(url))
    for text in (new["secret"], rotated["secret"]):
        secret = read_secret(text)
        assert secret is not None
        caller = store.find(secret)
        assert caller is not None and caller.key_id == new["id"]
    assert len(run(url, "show", new["id"])["secrets"]) == 2
    assert len(run(url, "rotate", new["id"], "--finish")["secrets"]) == 1
    assert run(url, "revoke", new["id"])["state"] == "revoked"
    [listed] = run(url, "ls")
    assert listed["state"] == "revoked"
    assert "secret" not in listed


def test_the_secret_alone_is_on_stdout(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    result = CliRunner().invoke(app, ["keys", "create", "studio", "--database-url", url])
    assert read_secret(result.stdout.strip()) is not None
    shown = CliRunner().invoke(app, ["keys", "ls", "--database-url", url]).stdout
    assert "studio" in shown
    assert result.stdout.strip() not in shown


def test_a_configurations_database_is_found(tmp_path: Path) -> None:
    config = tmp_path / "serve.yaml"
    config.write_text(f"pipeline: {{checkpoint: /w}}\ngateway: {{data_dir: {tmp_path}}}\n")
    result = CliRunner().invoke(app, ["keys", "create", "studio", "--config", str(config)])
    assert result.exit_code == 0, result.output
    assert [key["name"] for key in run(f"sqlite:///{tmp_path / 'jobs.sqlite'}", "ls")] == ["studio"]


def test_bad_words_are_named(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    for arguments, words in (
        (["revoke", "key_none"], "key_none"),
        (["create", "a", "--expires", "soon"], "90d"),
        (["create", "a", "--max-priority", "urgent"], "normal"),
        (["ls", "--database-url-file", __file__], "give one of"),
    ):
        result = CliRunner().invoke(app, ["keys", *arguments, "--database-url", url])
        assert result.exit_code == ExitCode.BAD_INPUT
        assert words in result.output
