"""A local cluster with both applications, for as long as a process wants it.

The applications are deployed as soon as Serve runs. Beside that this process imports the models,
torch and transformers, to hold the checkpoint against them; some hosts take as long for it.
"""

import logging
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import ray
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from deployments.config import ServeConfig
from deployments.front.haproxy import Front
from deployments.listeners import free_port, own_url
from deployments.names import GATEWAY, PIPELINE
from deployments.readiness import StartupError, wait_until_ready
from deployments.serve_config import serve_config, serve_logging
from model.checkpoint.layout import locate_checkpoint
from model.errors import CheckpointError

_DRAIN_GRACE_S = 10.0


class LocalServer:
    """A running service; leaving its context drains it and ends every process.

    Args:
        url: Where clients reach it.
        logs_dir: Where the processes write their logs.
        front: What clients come through; None where it is Serve's HTTP server itself.
    """

    def __init__(self, url: str, logs_dir: Path, front: Front | None) -> None:
        self.url = url
        self.logs_dir = logs_dir
        self._front = front
        self._running = True

    def __enter__(self) -> "LocalServer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def check(self) -> None:
        """Does nothing while clients can reach it.

        Raises:
            FrontError: They cannot any more.
        """
        if self._front is not None:
            self._front.check()

    def stop(self, *, drain_timeout_s: float = 60.0) -> None:
        """Refuses new jobs, finishes the running ones, and ends every process; twice is once.

        Args:
            drain_timeout_s: Jobs that run longer go back into the queue, as all do when this call
                is interrupted.
        """
        if not self._running:
            return
        self._running = False
        try:
            _drain(drain_timeout_s)
        except KeyboardInterrupt:
            _drain(0.0)
            raise
        finally:
            _stop_all(self._front)


def start_local(
    config: ServeConfig, *, on_wait: Callable[[list[str]], None] = lambda reasons: None
) -> LocalServer:
    """Starts Ray and both applications on this machine and waits until they serve.

    Args:
        config: The whole service; a gang that may start slowly is waited for as long.
        on_wait: Called about five times a second with what is not ready yet.

    Raises:
        CheckpointError: The checkpoint is incomplete; nothing is left running.
        ConfigurationError: The configuration does not fit the checkpoint; nothing is left running.
        FrontError: What stands in front did not start; nothing is left running.
        StartupError: The address is taken, or a deployment failed or was not ready in time;
            nothing is left running.
    """
    host, port = config.http.host, config.http.port
    _check_address(host, port)
    locate_checkpoint(config.pipeline.checkpoint)  # what is not there is told at once
    has_front = config.http.front.stands_before(host)
    inner_host, inner_port = ("127.0.0.1", free_port()) if has_front else (host, port)
    front: Front | None = None
    try:
        with ThreadPoolExecutor(max_workers=1) as beside:
            prepared = beside.submit(_prepared, config)
            verified = beside.submit(_verify, config)
            logs_dir = start_ray(num_cpus=config.logical_cpus)
            _start_serve(config, inner_host, inner_port)
            deploy_both = prepared.result()
            deploy_both()
            verified.result()
        if has_front:
            front = Front(
                config.http.front, host=host, port=port, inner_port=inner_port, folder=logs_dir
            )
        url = own_url(host, port)
        wait_until_ready(url, on_wait=on_wait, timeout_s=config.pipeline.longest_start_s)
    except CheckpointError:
        ray.shutdown()  # no stage is ready: Serve has nothing to finish, and its shutdown is noisy
        raise
    except BaseException:
        _stop_all(front)
        raise
    return LocalServer(url, logs_dir, front)


def _drain(timeout_s: float) -> None:
    handle = serve.get_app_handle(GATEWAY)
    handle.drain.remote(timeout_s).result(timeout_s=timeout_s + _DRAIN_GRACE_S)


def _check_address(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StartupError(
                f"cannot listen on {host}:{port} ({error.strerror}); choose another port"
            ) from error


def start_ray(*, num_cpus: int) -> Path:
    """Starts a Ray of this process' own, whatever other Ray runs on the machine.

    Args:
        num_cpus: Logical CPUs to announce; stages reserve them, nobody is pinned to them.

    Returns:
        Where its processes write their logs.
    """
    context: Any = ray.init(
        address="local",
        num_cpus=num_cpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    return Path(context.address_info["session_dir"]) / "logs"


def deploy(config: ServeConfig, *, host: str, port: int) -> str:
    """Deploys both applications on the connected Ray, without waiting for them.

    Returns:
        Address of the gateway.
    """
    deploy_both = _prepared(config)
    _verify(config)
    _start_serve(config, host, port)
    deploy_both()
    return own_url(host, port)


def deploy_file(config: ServeConfig) -> None:
    """Deploys both applications from the file that a cluster gets, or changes those that run.

    An application's policy exists in this form only, and only with it does Serve tell a change that
    needs a restart from one that does not. It costs processes that import and build each one.

    Args:
        config: The whole service; Serve's HTTP server keeps its address.
    """
    # Serve's own command does the same; the public way leads through the dashboard's server.
    client = _get_global_client(raise_if_no_controller_running=True)
    assert client is not None
    client.deploy_apps(ServeDeploySchema.model_validate(serve_config(config)))


def _start_serve(config: ServeConfig, host: str, port: int) -> None:
    # What Serve has to say on a terminal is said by `wait_until_ready`.
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    logs = serve_logging(config.logging)
    serve.start(http_options={"host": host, "port": port}, logging_config=logs)


def _prepared(config: ServeConfig) -> Callable[[], object]:
    """What deploys both applications: they are bound here, but where a policy scales, by Serve."""
    from deployments.app import bind_pipeline, build_gateway, check_checkpoint

    if config.pipeline.denoiser.scaling is not None:
        check_checkpoint(config.pipeline)
        return partial(deploy_file, config)
    logs = serve_logging(config.logging)
    gateway, pipeline = build_gateway(config.gateway), bind_pipeline(config.pipeline)
    targets = [
        serve.RunTarget(gateway, name=GATEWAY, route_prefix="/", logging_config=logs),
        serve.RunTarget(pipeline, name=PIPELINE, route_prefix=None, logging_config=logs),
    ]
    return partial(serve.run_many, targets, wait_for_applications_running=False)


def _verify(config: ServeConfig) -> None:
    from model.verify import verify_weights

    verify_weights(locate_checkpoint(config.pipeline.checkpoint))


def _stop_all(front: Front | None) -> None:
    if front is not None:
        front.stop()
    if ray.is_initialized():
        serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()
