"""Keys for people and for programs."""

import json
import time
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from deployments.keys.store import KeyRecord, NewKey
from deployments.keys.tables import ApiKey

# Of what is piped, where nothing should be cut.
_WIDTH = 200
_SHOWN = (
    "id",
    "name",
    "scopes",
    "requests_per_minute",
    "max_unfinished_jobs",
    "gpu_seconds_per_day",
    "max_priority",
    "created_at",
    "expires_at",
    "revoked_at",
    "last_used_at",
)


def print_json(shown: object) -> None:
    """Prints what `as_dict` made, or a list of it."""
    print(json.dumps(shown, indent=2))


def as_dict(record: KeyRecord) -> dict[str, Any]:
    """All that may be shown of a key; times are Unix seconds."""
    secrets = [
        {"prefix": row.prefix, "created_at": row.created_at, "expires_at": row.expires_at}
        for row in record.secrets
    ]
    fields = {name: getattr(record.key, name) for name in _SHOWN}
    return {**fields, "state": _state(record.key), "secrets": secrets}


def print_new(new: NewKey, *, as_json: bool) -> None:
    """Prints a secret, this once."""
    if as_json:
        print_json({**as_dict(new.record), "secret": new.secret.text})
        return
    key = new.record.key
    Console(stderr=True, highlight=False, soft_wrap=True).print(
        f"{key.id} ({key.name}); the secret is shown this once:", markup=False
    )
    print(new.secret.text)


def print_record(record: KeyRecord, *, as_json: bool) -> None:
    """Prints one key, a line for each fact."""
    shown = as_dict(record)
    if as_json:
        print_json(shown)
        return
    for name, value in shown.items():
        if name == "secrets":
            for secret in value:
                until = "" if secret["expires_at"] is None else f" until {_when(secret)}"
                print(f"secret: {secret['prefix']}…{until}")
        elif name.endswith("_at"):
            print(f"{name}: {_time(value)}")
        else:
            text = ", ".join(value) if isinstance(value, list) else value
            print(f"{name}: {'-' if text is None else text}")


def print_table(records: Iterable[KeyRecord]) -> None:
    """Prints keys, one a line."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("id", "name", "state", "secret", "scopes", "created", "last used"):
        table.add_column(heading, no_wrap=True)
    for record in records:
        key = record.key
        prefixes = " ".join(f"{row.prefix}…" for row in record.secrets)
        times = (_time(key.created_at), _time(key.last_used_at))
        table.add_row(key.id, key.name, _state(key), prefixes, " ".join(key.scopes), *times)
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = _WIDTH
    console.print(table)


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "valid" if key.is_valid(time.time()) else "expired"


def _when(secret: dict[str, float | None]) -> str:
    return _time(secret["expires_at"])


def _time(unix_s: float | None) -> str:
    if unix_s is None:
        return "-"
    return datetime.fromtimestamp(unix_s, timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
