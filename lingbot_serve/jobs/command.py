"""`lingbot-serve jobs`: what a server makes and has made, and what shall become of it."""

import json as json_format
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import typer
from rich.console import Console

from lingbot_serve.client.sync import Client, Job
from lingbot_serve.client.video import Order, require_completed
from lingbot_serve.exit_codes import EPILOG, errors_as_exit_codes
from lingbot_serve.jobs import options
from lingbot_serve.jobs.interrupt import cancel_or_detach
from lingbot_serve.jobs.show import as_details, as_table
from lingbot_serve.jobs.trace import jobs_database, num_left_out, read_jobs
from lingbot_serve.keys import options as database
from lingbot_serve.options import ApiKey

app = typer.Typer(
    help="List, follow, cancel, fetch and trace a server's jobs.", no_args_is_help=True
)

_SUFFIXES = {
    "video": ".mp4",
    "tensors": ".safetensors",
    "thumbnail": ".webp",
    "last_frame": ".png",
}


@app.command(epilog=EPILOG)
def ls(
    url: options.Url = None,
    api_key: ApiKey = None,
    limit: options.Limit = 20,
    after: options.After = None,
    oldest_first: options.OldestFirst = False,
    json: options.Json = False,
) -> None:
    """List jobs."""
    with _client(url, api_key) as client:
        order: Order = "asc" if oldest_first else "desc"
        jobs = client.jobs(limit=limit, after=after, order=order)
        if json:
            for job in jobs:
                print(job.video.model_dump_json())
        else:
            _stdout().print(as_table([job.video for job in jobs]))


@app.command(epilog=EPILOG)
def show(
    job_id: options.JobId,
    url: options.Url = None,
    api_key: ApiKey = None,
    json: options.Json = False,
) -> None:
    """Show all that the server says of a job."""
    with _client(url, api_key) as client:
        video = client.job(job_id).video
        if json:
            print(video.model_dump_json())
        else:
            _stdout().print(as_details(video))


@app.command(epilog=EPILOG)
def watch(
    job_id: options.JobId,
    url: options.Url = None,
    api_key: ApiKey = None,
    last_event_id: options.LastEventId = "",
    json: options.Json = False,
) -> None:
    """Follow a job to its end; Ctrl-C asks whether to cancel it or to leave it running."""
    with _client(url, api_key) as client:
        job = client.job(job_id)
        with cancel_or_detach(job, _stderr(), url=url):
            if json:
                _print_events(job, last_event_id)
            else:
                job.wait(progress=_stderr())
                print(job.id)


@app.command(epilog=EPILOG)
def cancel(
    job_ids: options.JobIds,
    url: options.Url = None,
    api_key: ApiKey = None,
    json: options.Json = False,
) -> None:
    """Stop jobs at their next step; what is over stays as it is."""
    with _client(url, api_key) as client:
        for job_id in job_ids:
            video = client.job(job_id).cancel()
            print(video.model_dump_json() if json else f"{video.id} {video.state}")


@app.command(epilog=EPILOG)
def rm(
    job_ids: options.JobIds,
    url: options.Url = None,
    api_key: ApiKey = None,
    json: options.Json = False,
) -> None:
    """Stop jobs if need be, and remove them with their files."""
    with _client(url, api_key) as client:
        for job_id in job_ids:
            client.job(job_id).delete()
            deleted = {"id": job_id, "deleted": True}
            print(json_format.dumps(deleted) if json else f"{job_id} deleted")


@app.command(epilog=EPILOG)
def save(
    job_id: options.JobId,
    url: options.Url = None,
    api_key: ApiKey = None,
    output: options.Output = None,
    variant: options.Variant = "video",
    json: options.Json = False,
) -> None:
    """Write a file of a completed job; what an earlier call left unfinished is gone on with."""
    with _client(url, api_key) as client:
        path = output or Path(f"{job_id}{_SUFFIXES.get(variant, '')}")
        client.job(job_id).save(path, variant=variant)
        written = {"id": job_id, "variant": variant, "path": str(path)}
        print(json_format.dumps(written) if json else path)


@app.command(epilog=EPILOG)
def trace(
    config: database.Config = None,
    database_url: database.DatabaseUrl = None,
    database_url_file: database.DatabaseUrlFile = None,
    gang_size: options.GangSize = 8,
) -> None:
    """Print the finished clips of a server's database as JSON lines for `simulate --trace`."""
    with (
        errors_as_exit_codes(),
        jobs_database(config, database_url, database_url_file) as engine,
    ):
        num_clips = 0
        for clip in read_jobs(engine, gang_size):
            print(json_format.dumps(asdict(clip)))
            num_clips += 1
        left_out = num_left_out(engine)
        _stderr().print(f"{num_clips} clips; {left_out} jobs without a timed clip are left out")


def _print_events(job: Job, last_event_id: str) -> None:
    for event in job.events(last_event_id=last_event_id):
        # A pipe would hold back what somebody waits for.
        print(event.model_dump_json(exclude_none=True), flush=True)
    require_completed(job.video)


@contextmanager
def _client(url: str | None, api_key: str | None) -> Iterator[Client]:
    with errors_as_exit_codes(), Client(url, api_key=api_key) as client:
        yield client


def _stderr() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


def _stdout() -> Console:
    # A file or a pipe has no width, and ids must stay whole.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)
