"""`lingbot-serve keys`: who may call the API."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console

from deployments.config import ServeConfig
from deployments.gateway_config import GatewayConfig
from deployments.jobs.database import open_database
from deployments.keys.rights import PRIORITIES, Quotas, Scope
from deployments.keys.store import KeyStore
from lingbot_serve.exit_codes import errors_as_exit_codes
from lingbot_serve.keys import options
from lingbot_serve.keys.show import as_dict, print_json, print_new, print_record, print_table
from model.errors import ConfigurationError

EPILOG = "Exit codes: 0 done, 1 the database does not answer, 2 bad input or settings."
_GRACE = "24h"

app = typer.Typer(help="Make, list, rotate and revoke API keys.", no_args_is_help=True)


@app.command(epilog=EPILOG)
def create(
    name: options.Name,
    scope: options.Scopes = None,
    expires: options.Expires = None,
    requests_per_minute: options.RequestsPerMinute = None,
    max_unfinished_jobs: options.MaxUnfinishedJobs = None,
    gpu_seconds_per_day: options.GpuSecondsPerDay = None,
    max_priority: options.MaxPriority = PRIORITIES[-1],
    config: options.Config = None,
    database_url: options.DatabaseUrl = None,
    database_url_file: options.DatabaseUrlFile = None,
    json: options.Json = False,
) -> None:
    """Make a key and print its secret, this once."""
    quotas = Quotas(requests_per_minute, max_unfinished_jobs, gpu_seconds_per_day, max_priority)
    with _keys(config, database_url, database_url_file) as keys:
        new = keys.create(
            name,
            scopes=scope or (Scope.READ, Scope.WRITE),
            quotas=quotas,
            expires_at=None if expires is None else time.time() + expires,
        )
        print_new(new, as_json=json)


@app.command("ls", epilog=EPILOG)
def list_keys(
    config: options.Config = None,
    database_url: options.DatabaseUrl = None,
    database_url_file: options.DatabaseUrlFile = None,
    json: options.Json = False,
) -> None:
    """List all keys, those that are over too."""
    with _keys(config, database_url, database_url_file) as keys:
        records = keys.all()
    if json:
        print_json([as_dict(record) for record in records])
    else:
        print_table(records)


@app.command(epilog=EPILOG)
def show(
    key_id: options.KeyId,
    config: options.Config = None,
    database_url: options.DatabaseUrl = None,
    database_url_file: options.DatabaseUrlFile = None,
    json: options.Json = False,
) -> None:
    """Show one key: scopes, quotas, times, the beginnings of its secrets."""
    with _keys(config, database_url, database_url_file) as keys:
        print_record(keys.get(key_id), as_json=json)


@app.command(epilog=EPILOG)
def rotate(
    key_id: options.KeyId,
    grace: options.Grace = _GRACE,  # type: ignore[assignment] # the option's parser reads it
    finish: options.Finish = False,
    config: options.Config = None,
    database_url: options.DatabaseUrl = None,
    database_url_file: options.DatabaseUrlFile = None,
    json: options.Json = False,
) -> None:
    """Give a key a second secret; the old one works on for a while."""
    with _keys(config, database_url, database_url_file) as keys:
        if finish:
            print_record(keys.drop_old_secrets(key_id), as_json=json)
        else:
            print_new(keys.rotate(key_id, grace_s=grace), as_json=json)


@app.command(epilog=EPILOG)
def revoke(
    key_id: options.KeyId,
    config: options.Config = None,
    database_url: options.DatabaseUrl = None,
    database_url_file: options.DatabaseUrlFile = None,
    json: options.Json = False,
) -> None:
    """End a key; gateways notice within seconds, and its jobs go on."""
    with _keys(config, database_url, database_url_file) as keys:
        print_record(keys.revoke(key_id), as_json=json)


@contextmanager
def _keys(config: Path | None, url: str | None, url_file: Path | None) -> Iterator[KeyStore]:
    """The keys of the database that the options name; errors become exit codes."""
    with errors_as_exit_codes():
        if sum(given is not None for given in (config, url, url_file)) > 1:
            raise ConfigurationError("give one of --config, --database-url and --database-url-file")
        gateway = (
            GatewayConfig(database_url=url, database_url_file=url_file)
            if config is None
            else ServeConfig.from_yaml(config).gateway
        )
        if gateway.database_url is None and gateway.database_url_file is None:
            # SQLite makes the file, not its folder.
            gateway.data_dir.mkdir(parents=True, exist_ok=True)
        engine = open_database(gateway.store_url())
        place = engine.url.render_as_string(hide_password=True)
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"in {place}", markup=False)
        try:
            yield KeyStore(engine)
        finally:
            engine.dispose()
