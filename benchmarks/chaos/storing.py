"""Holds a job between its stored clip and its written end, by PostgreSQL's own means.

That moment lasts milliseconds. A trigger lets the write of a job's end wait for a lock, which only
this module takes; the service knows nothing of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, text

HELD_PROMPT = "held where its end is written"
_LOCK = 271_828
_FUNCTION = f"""
CREATE OR REPLACE FUNCTION hold_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared({_LOCK});
    RETURN NEW;
END $$
"""
_TRIGGER = f"""
CREATE OR REPLACE TRIGGER hold_end BEFORE UPDATE ON jobs FOR EACH ROW
WHEN (NEW.status = 'completed' AND OLD.status <> 'completed' AND NEW.prompt LIKE '{HELD_PROMPT}%')
EXECUTE FUNCTION hold_end()
"""
_WAITS = text(
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = :lock"
)


def install_hold(engine: Engine) -> None:
    """Makes the trigger."""
    with engine.begin() as connection:
        connection.execute(text(_FUNCTION))
        connection.execute(text(_TRIGGER))


@contextmanager
def ends_held(engine: Engine) -> Iterator[None]:
    """Inside, no job with the prompt comes to its end."""
    with engine.connect() as connection:
        connection.execute(text(f"SELECT pg_advisory_lock({_LOCK})"))
        try:
            yield
        finally:
            connection.execute(text(f"SELECT pg_advisory_unlock({_LOCK})"))


def is_held(engine: Engine) -> bool:
    """Whether a job waits there now."""
    with engine.connect() as connection:
        return bool(connection.scalar(_WAITS, {"lock": _LOCK}))
