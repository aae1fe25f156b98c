"""What can die, or go away for a while."""

import threading
from collections.abc import Callable
from enum import Enum
from pathlib import Path

from benchmarks.chaos.jobs import read_job
from benchmarks.chaos.processes import ActorProcess, busiest, controller, kill, ranks, replicas
from benchmarks.chaos.service import Service
from benchmarks.chaos.states import State
from deployments.messages import Stage
from deployments.names import GATEWAY, PIPELINE

# Shorter than a lease, so that a gateway still holds its jobs when the database is back.
OUTAGE_S = 4.0
_ALONE = {
    State.QUEUED: Stage.DENOISER,
    State.ENCODING: Stage.VAE_ENCODER,
    State.DENOISING: Stage.DENOISER,
}


class Strike(str, Enum):
    """What is struck."""

    RANK = "rank"
    GANG = "gang"
    DECODER = "decoder"
    ENCODER = "encoder"
    PIPELINE = "pipeline"
    GATEWAY = "gateway"
    CONTROLLER = "controller"
    RAYLET = "raylet"
    DATABASE = "database"
    ARTIFACTS = "artifacts"


# Nobody reads the clips of these: the next attempt should find them, on whichever gang they are.
_LEAVE_ORPHANS = (Strike.PIPELINE, Strike.GATEWAY)


def num_gangs(what: Strike) -> int:
    """Gangs of the service that is struck: two where a clip may come to another than before."""
    return 2 if what in _LEAVE_ORPHANS else 1


def strike(service: Service, what: Strike, victim: str, state: State) -> None:
    """Strikes at once; what only goes away comes back by itself.

    Args:
        service: Whose part.
        what: Which part.
        victim: The job that makes a replica the one to strike, where there are several.
        state: Where the victim stands.
    """
    if what is Strike.RAYLET:
        assert service.machines is not None
        service.machines.kill_raylet(_at_work(service, victim, state).node_id)
    elif what is Strike.DATABASE:
        assert service.database is not None
        _for_a_while(service.database.cut, service.database.restore)
    elif what is Strike.ARTIFACTS:
        _for_a_while(lambda: _take_away(service.artifacts), lambda: _put_back(service.artifacts))
    else:
        kill(_processes(service, what, victim, state))


def _processes(service: Service, what: Strike, victim: str, state: State) -> list[ActorProcess]:
    if what is Strike.RANK:
        return ranks()[-1:]
    if what is Strike.GANG:
        return [*ranks(), *replicas(Stage.DENOISER.value)]
    if what is Strike.DECODER:
        return [_decoder(state)]
    if what is Strike.ENCODER:
        return replicas(Stage.VAE_ENCODER.value)
    if what is Strike.PIPELINE:
        return replicas(PIPELINE)
    if what is Strike.GATEWAY:
        return [_gateway(service, victim)]
    return [controller()]


def _at_work(service: Service, victim: str, state: State) -> ActorProcess:
    """The process that the victim is with, or waits for."""
    if state in _ALONE:
        return replicas(_ALONE[state].value)[0]
    return _decoder(state) if state is State.DECODING else _gateway(service, victim)


def _decoder(state: State) -> ActorProcess:
    decoders = replicas(Stage.VAE_DECODER.value)
    return busiest(decoders) if state is State.DECODING else decoders[0]


def _gateway(service: Service, victim: str) -> ActorProcess:
    """The gateway that owns the job, by its owner's name; any while nobody does."""
    gateways = replicas(GATEWAY)
    owner = read_job(service.engine, victim).owner
    pid = gateways[0].pid if owner is None else int(owner.split("-")[-2])
    return next(gateway for gateway in gateways if gateway.pid == pid)


def _for_a_while(away: Callable[[], object], back: Callable[[], object]) -> None:
    away()
    threading.Timer(OUTAGE_S, back).start()


def _take_away(folder: Path) -> None:
    """Moves a folder away and leaves a file in its place, or whoever writes would make it again."""
    folder.rename(folder.with_name("away"))
    folder.touch()


def _put_back(folder: Path) -> None:
    folder.unlink()
    folder.with_name("away").rename(folder)
