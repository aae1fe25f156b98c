"""The jobs' database: SQLite beside the clips, or PostgreSQL; its schema is kept up to date."""

from pathlib import Path
from types import MappingProxyType

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, inspect
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import ConnectionPoolEntry

from deployments.jobs import migrations
from model.errors import ConfigurationError

# What the tables were before they carried a revision.
_FIRST_REVISION = "0001"
_LOCK_WAIT_MS = 30_000
# A server that vanished without a word answers neither a connection nor a statement.
_POSTGRESQL = MappingProxyType({"connect_timeout": 10, "tcp_user_timeout": 30_000})
# A gateway that hangs inside a transaction, or waits behind one, must not do so for good.
_POSTGRESQL_LIMITS = (
    "SET lock_timeout = '30s'",
    "SET idle_in_transaction_session_timeout = '60s'",
)
# Any number will do, as long as nobody else of this database locks by it.
_ADVISORY_LOCK = 7_316_041_923


def open_database(url: str) -> Engine:
    """Connects to the database and brings its tables up to date; safe to do side by side.

    Args:
        url: SQLAlchemy's; `sqlite:///…` or `postgresql+psycopg://…`.

    Raises:
        ConfigurationError: Another kind of database, or its driver is not installed.
    """
    engine = _connect(url)
    if engine.dialect.name == "sqlite":
        _use_write_ahead_log(engine)
    elif engine.dialect.name == "postgresql":
        _limit_waits(engine)
    else:
        raise ConfigurationError(
            f"database_url: {engine.dialect.name} is not supported; use sqlite or postgresql"
        )
    with engine.begin() as connection:
        _lock(connection)
        _upgrade(connection)
    return engine


def _connect(url: str) -> Engine:
    try:
        # Without hide_parameters an error of the database carries the prompt into the log.
        connect = _POSTGRESQL if url.startswith("postgresql") else {}
        return create_engine(
            url, pool_pre_ping=True, hide_parameters=True, connect_args=dict(connect)
        )
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"database_url needs the package {error.name}; for PostgreSQL install "
            "'lingbot-serve[postgres]' and write postgresql+psycopg://…"
        ) from error
    except ArgumentError as error:
        raise ConfigurationError(f"database_url: {error}") from error


def _lock(connection: Connection) -> None:
    """Keeps other gateways from migrating until this transaction ends."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        # Another gateway's migration may take its time.
        connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__path__[0])))
    config.attributes["connection"] = connection
    tables = inspect(connection).get_table_names()
    if "jobs" in tables and "alembic_version" not in tables:
        context = MigrationContext.configure(connection)
        context.stamp(ScriptDirectory.from_config(config), _FIRST_REVISION)
    command.upgrade(config, "head")


def _use_write_ahead_log(engine: Engine) -> None:
    """Lets readers poll while a step is written, and skips the disk flush per step."""

    @event.listens_for(engine, "connect")
    def configure(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={_LOCK_WAIT_MS}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.close()


def _limit_waits(engine: Engine) -> None:
    """Bounds every session; not by `options` of the connection, which a pooler may refuse."""

    @event.listens_for(engine, "connect")
    def configure(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        for statement in _POSTGRESQL_LIMITS:
            cursor.execute(statement)
        cursor.close()
        connection.commit()
