"""The jobs' schema: what an earlier release left is brought up to date, once."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from deployments.jobs.claims import Claim, Claims
from deployments.jobs.database import open_database
from deployments.jobs.store import JobStore
from deployments.jobs.tables import IN_PROGRESS, QUEUED, Tables
from deployments.keys.tables import ApiKey
from deployments.webhooks.tables import WebhookEndpoint
from model.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[2]

# As the release before revisions made it.
FIRST_LIGHT = """
CREATE TABLE jobs (
    number INTEGER NOT NULL, id VARCHAR NOT NULL, status VARCHAR NOT NULL, model VARCHAR NOT NULL,
    prompt VARCHAR NOT NULL, created_at FLOAT NOT NULL, started_at FLOAT, completed_at FLOAT,
    width INTEGER NOT NULL, height INTEGER NOT NULL, num_frames INTEGER NOT NULL,
    seed VARCHAR NOT NULL, num_inference_steps INTEGER NOT NULL, notes JSON NOT NULL,
    progress INTEGER NOT NULL, stage VARCHAR, step INTEGER, total_steps INTEGER,
    stage_durations JSON NOT NULL, error_code VARCHAR, error_message VARCHAR,
    PRIMARY KEY (number), UNIQUE (id)
);
CREATE INDEX ix_jobs_status ON jobs (status);
INSERT INTO jobs (id, status, model, prompt, created_at, width, height, num_frames, seed,
                  num_inference_steps, notes, progress, stage_durations)
VALUES ('waiting', 'queued', 'm', 'p', 1.0, 96, 64, 17, '1', 3, '[]', 0, '{}'),
       ('begun', 'in_progress', 'm', 'p', 2.0, 96, 64, 17, '1', 3, '[]', 40, '{}');
"""


def revision(engine: Engine) -> str:
    with engine.connect() as connection:
        return str(connection.scalar(text("SELECT version_num FROM alembic_version")))


def test_a_database_of_the_first_release_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    with sqlite3.connect(path) as old:
        old.executescript(FIRST_LIGHT)
    engine = open_database(f"sqlite:///{path}")
    store = JobStore(engine)
    assert store.count() == {QUEUED: 1, IN_PROGRESS: 1}
    claims = Claims(engine, "g", lease_s=30)
    claims.recover()
    assert claims.claim(2) == [Claim("waiting", 1), Claim("begun", 1)]
    engine.dispose()


def test_the_migrations_make_what_the_code_expects(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    with engine.connect() as connection:
        assert ApiKey.metadata is WebhookEndpoint.metadata is Tables.metadata
        assert compare_metadata(MigrationContext.configure(connection), Tables.metadata) == []
    engine.dispose()


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    engines = [open_database(url), open_database(url)]
    assert revision(engines[0]) == revision(engines[1])
    for engine in engines:
        engine.dispose()


def test_gateways_that_start_at_once_migrate_once(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    with sqlite3.connect(path) as old:
        old.executescript(FIRST_LIGHT)
    url = f"sqlite:///{path}"
    begin = [
        sys.executable,
        "-c",
        f"import {open_database.__module__} as m; m.open_database({url!r})",
    ]
    gateways = [subprocess.Popen(begin, cwd=ROOT, stderr=subprocess.PIPE) for _ in range(3)]
    faults = [gateway.communicate()[1].decode() for gateway in gateways]
    assert [gateway.returncode for gateway in gateways] == [0, 0, 0], faults
    engine = open_database(url)
    assert JobStore(engine).count() == {QUEUED: 1, IN_PROGRESS: 1}
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("mysql+pymysql://h/db", "pymysql"),
        ("postgresql+asyncpg_missing://h/db", "database_url"),
        ("no url", "database_url"),
    ],
)
def test_another_database_is_refused(url: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        open_database(url)


def test_an_error_of_the_database_shows_no_prompt(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    with pytest.raises(OperationalError) as caught, engine.begin() as connection:
        connection.execute(text("SELECT nothing WHERE 1 = :prompt"), {"prompt": "a lighthouse"})
    assert "lighthouse" not in str(caught.value)
    engine.dispose()
