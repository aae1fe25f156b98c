"""Databases for the tests that want both kinds."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine

from deployments.jobs.database import open_database
from deployments.jobs.tables import Tables
from deployments.keys.tables import ApiKeySecret
from deployments.webhooks.tables import WebhookDelivery
from tests.support.postgres import postgres_programs, running_postgres
from tests.support.s3 import running_s3

# Named here, so that their tables are among those that are emptied.
assert ApiKeySecret.metadata is WebhookDelivery.metadata is Tables.metadata


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a real PostgreSQL with today's tables."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL's server programs are not installed")
    with running_postgres(programs) as url:
        open_database(url).dispose()
        yield url


@pytest.fixture
def postgres(postgres_server: str) -> Iterator[str]:
    """URL of the PostgreSQL, whose tables are empty again afterwards."""
    yield postgres_server
    engine = create_engine(postgres_server)
    with engine.begin() as connection:
        for table in reversed(Tables.metadata.sorted_tables):
            connection.execute(table.delete())
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    return str(request.getfixturevalue("postgres"))


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """The same, open."""
    engine = open_database(database_url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[dict[str, str]]:
    """A real S3 server with one bucket, and the environment in which clients find it."""
    with running_s3() as environment:
        yield environment


@pytest.fixture
def s3(s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The S3 server, with its credentials in this process' environment."""
    for name, value in s3_server.items():
        monkeypatch.setenv(name, value)
    return s3_server
