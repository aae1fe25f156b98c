"""The whole service on a cluster of several nodes, over a PostgreSQL that can be cut off."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from sqlalchemy import Engine, create_engine, make_url

from benchmarks.chaos.machines import Machines
from benchmarks.chaos.processes import ranks, replicas
from benchmarks.chaos.storing import install_hold
from benchmarks.chaos.tcp_proxy import TcpProxy
from deployments.config import ServeConfig
from deployments.launch import deploy
from deployments.listeners import free_port
from deployments.names import PIPELINE
from deployments.readiness import wait_until_ready
from model.checkpoint.synthetic import TINY, write_synthetic_checkpoint
from model.errors import ConfigurationError
from tests.support.postgres import postgres_programs, running_postgres
from tests.support.server import small_config

HOST = "127.0.0.1"
GANG_SIZE, NUM_DECODERS, NUM_GATEWAYS, NUM_NODES = 2, 2, 2, 3
LEASE_S = 6.0
_START_TIMEOUT_S = 180.0


@dataclass(frozen=True)
class Service:
    """A running service and whatever of it can be struck.

    Args:
        url: Address of the gateways.
        config: What was deployed.
        engine: Of the database, past the proxy.
        logs_dir: Where all processes log.
        machines: The nodes, where there are several.
        database: What stands before the database, where it can be cut off.
    """

    url: str
    config: ServeConfig
    engine: Engine
    logs_dir: Path
    machines: Machines | None = None
    database: TcpProxy | None = None

    @property
    def artifacts(self) -> Path:
        """Where all clips and inputs lie."""
        return self.config.gateway.data_dir / "videos"

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30)

    def wait_until_whole(self, *, timeout_s: float) -> None:
        """Returns once every part lives again.

        Raises:
            TimeoutError: Some part did not come back; the message says which.
        """
        if self.machines is not None:
            self.machines.replace_dead()
        deadline_s = time.monotonic() + timeout_s
        while missing := self._missing():
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"not whole after {timeout_s:g} s: {missing}")
            time.sleep(0.2)

    def _missing(self) -> str:
        try:
            for application in serve.status().applications.values():
                for name, deployment in application.deployments.items():
                    states = deployment.replica_states
                    # Ray knows at once that a replica has died, Serve some time later.
                    living = {"RUNNING": len(replicas(name))}
                    if deployment.status != "HEALTHY" or states != living:
                        return f"{name} is {deployment.status} {states}, {living} live"
            return self._sick_gang() or self._silent_gateway()
        except (RayError, RayServeException, TimeoutError, httpx.TransportError) as error:
            return repr(error)

    def _sick_gang(self) -> str:
        denoiser = serve.get_deployment_handle("denoiser", PIPELINE)
        places = denoiser.places.remote().result(timeout_s=10)
        alive = [place for place in places if psutil.pid_exists(place.pid)]
        num_ranks = len(places) * self.config.pipeline.denoiser.num_replicas
        return "" if len(alive) == len(places) and len(ranks()) == num_ranks else "a gang heals"

    def _silent_gateway(self) -> str:
        answer = httpx.get(f"{self.url}/readyz", timeout=10)
        return "" if answer.status_code == 200 else f"readyz says {answer.text}"


@contextmanager
def running_service(folder: Path, *, num_gangs: int) -> Iterator[Service]:
    """Starts PostgreSQL, a head and three nodes, and both applications.

    Args:
        folder: For the checkpoint, the clips and the inputs.
        num_gangs: Of two ranks each.

    Raises:
        ConfigurationError: There is no PostgreSQL.
    """
    programs = postgres_programs()
    if programs is None:
        raise ConfigurationError("several gateways need PostgreSQL: apt-get install postgresql")
    write_synthetic_checkpoint(folder / "checkpoint", seed=0, size=TINY)
    with running_postgres(programs) as real_url:
        url = make_url(real_url)
        assert url.port is not None
        proxy = TcpProxy(HOST, url.port, listen_port=free_port())
        proxied = url.set(port=proxy.port).render_as_string(hide_password=False)
        config = settings(folder, proxied, num_gangs)
        engine = create_engine(url, pool_pre_ping=True)
        machines = Machines(NUM_NODES)
        try:
            serve.start(
                proxy_location="HeadOnly", http_options={"host": HOST, "port": config.http.port}
            )
            address = deploy(config, host=HOST, port=config.http.port)
            wait_until_ready(address, timeout_s=_START_TIMEOUT_S)
            install_hold(engine)
            yield Service(address, config, engine, Path(machines.logs_dir), machines, proxy)
        finally:
            machines.stop()
            engine.dispose()


def settings(folder: Path, database_url: str, num_gangs: int) -> ServeConfig:
    """The small service with gangs of two, two decoders and two gateways."""
    raw = small_config(
        folder / "checkpoint", folder / "data", port=free_port(), gang_size=GANG_SIZE
    ).model_dump(exclude_unset=True)
    raw["logging"] = {"format": "json"}
    raw["pipeline"]["denoiser"]["num_replicas"] = num_gangs
    raw["pipeline"]["vae_decoder"]["num_replicas"] = NUM_DECODERS
    raw["gateway"] |= {
        "database_url": database_url,
        "num_replicas": NUM_GATEWAYS,
        "lease_s": LEASE_S,
    }
    return ServeConfig.model_validate(raw)
