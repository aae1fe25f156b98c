"""A real HTTP server that speaks S3, on loopback: moto in a process of its own."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import boto3
import httpx

from deployments.listeners import free_port

BUCKET = "clips"
_START_TIMEOUT_S = 30.0


@contextmanager
def running_s3() -> Iterator[dict[str, str]]:
    """Starts a server with one empty bucket.

    Yields:
        The environment in which an S3 client finds it.
    """
    port = free_port()
    code = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "not-a-secret",
    }
    try:
        _wait_for(environment["AWS_ENDPOINT_URL"])
        bucket_client(environment).create_bucket(Bucket=BUCKET)
        yield environment
    finally:
        process.kill()
        process.wait()


def bucket_client(environment: dict[str, str]):  # type: ignore[no-untyped-def]
    """A client that is not the one under test."""
    return boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=environment["AWS_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )


def _wait_for(url: str) -> None:
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        try:
            httpx.get(url, trust_env=False)
            return
        except httpx.TransportError:
            time.sleep(0.05)
    raise TimeoutError(f"no S3 server at {url}")
