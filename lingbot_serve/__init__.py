"""Serves the LingBot-World video world models; `Client` and `AsyncClient` talk to such a server."""

from lingbot_serve.client.aio import AsyncClient, AsyncJob
from lingbot_serve.client.sync import Client, Job

__all__ = ["AsyncClient", "AsyncJob", "Client", "Job"]
