"""Discrete events: clips arrive, gangs load, work and are lost, a controller sets their number."""

import heapq
from collections import deque
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from autoscaling.order import OrderSettings
from autoscaling.policy import Signal
from autoscaling.simulator.controllers import Controller, Observation
from autoscaling.simulator.fleet import Fleet, Slot
from autoscaling.simulator.ordered import OrderedQueue
from autoscaling.simulator.queue import Load, Queue, WaitingClips, punctuality
from autoscaling.simulator.trace import DAY_S, Floats, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSettings:
    """The machines.

    Args:
        num_gpus: GPUs that there are.
        gang_size: GPUs that work on one clip.
        min_gangs: Lower bound of the target.
        warm_gangs: Gangs that are loaded at the start.
        cold_start_s: From the decision until a gang takes its first clip.
        tick_s: How often metrics reach the controller, and it decides.
        look_back_s: Window over which requests are averaged.
        node_gpus: GPUs that are lost together.
        node_mtbf_s: Mean time between losses of one node; None: none is lost.
        repair_s: How long a lost node is away.
    """

    num_gpus: int
    gang_size: int = 8
    min_gangs: int = 0
    warm_gangs: int = 0
    cold_start_s: float = 120.0
    tick_s: float = 10.0
    look_back_s: float = 30.0
    node_gpus: int = 8
    node_mtbf_s: float | None = None
    repair_s: float = 1800.0

    def __post_init__(self) -> None:
        if self.node_gpus < 1 or (self.node_mtbf_s is not None and self.node_mtbf_s <= 0):
            raise ValueError("node_gpus and node_mtbf_s must be positive")
        if self.gang_size < 1 or self.max_gangs < 1:
            raise ValueError(f"no gang of {self.gang_size} fits onto {self.num_gpus} GPUs")
        if not 0 <= self.min_gangs <= self.max_gangs or not 0 <= self.warm_gangs <= self.max_gangs:
            raise ValueError(f"min_gangs and warm_gangs must lie in 0..{self.max_gangs}")
        if self.tick_s <= 0 or self.cold_start_s < 0 or self.repair_s < 0:
            raise ValueError("tick_s must be positive, cold_start_s and repair_s not negative")

    @property
    def max_gangs(self) -> int:
        """Gangs that fit: no gang shares its nodes' left-over GPUs with another node."""
        nodes, odd_gpus = divmod(self.num_gpus, self.node_gpus)
        if self.gang_size > self.node_gpus:
            return nodes // -(-self.gang_size // self.node_gpus)
        return nodes * (self.node_gpus // self.gang_size) + odd_gpus // self.gang_size


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a simulation saw.

    Args:
        wait_s: From each clip's arrival to the start of the run that finished it, [N].
        end_s: When the last clip was done.
        held_gpu_s: GPU-seconds of all gangs, loading and idling included.
        useful_gpu_s: GPU-seconds of the runs that finished.
        lost_gpu_s: GPU-seconds of the runs that a node's loss broke off.
        loading_gpu_s: GPU-seconds that gangs took to load.
        lost_runs: Runs broken off.
        targets: The gangs wanted, each time that changed.
        peak_gangs: Most gangs at once.
        num_due: Clips with a deadline.
        num_punctual: Of these, done in time.
    """

    wait_s: Floats
    end_s: float
    held_gpu_s: float
    useful_gpu_s: float
    lost_gpu_s: float
    loading_gpu_s: float
    lost_runs: int
    targets: tuple[int, ...]
    peak_gangs: int
    num_due: int
    num_punctual: int


class _Event(IntEnum):
    DONE = 0
    READY = 1
    REPAIRED = 2
    LOST = 3
    TICK = 4


def simulate(
    trace: Trace,
    settings: FleetSettings,
    controller: Controller,
    *,
    seed: int = 0,
    order: OrderSettings | None = None,
) -> Outcome:
    """Runs a trace to its last clip.

    Args:
        trace: The clips.
        settings: The machines.
        controller: Sets the number of gangs; used for one simulation only.
        seed: Of the nodes' losses, the only chance that is left.
        order: How gateways claim waiting clips; None: first come first served.

    Raises:
        ValueError: A controller wants no gang while clips wait, for a whole day.
    """
    queue: WaitingClips = (
        Queue(trace, settings.gang_size)
        if order is None
        else OrderedQueue(trace, order, settings.gang_size)
    )
    return _Simulation(trace, settings, controller, seed, queue).run()


class _Simulation:
    def __init__(
        self,
        trace: Trace,
        settings: FleetSettings,
        controller: Controller,
        seed: int,
        queue: WaitingClips,
    ) -> None:
        self._settings, self._controller = settings, controller
        self._trace = trace
        self._rng = np.random.default_rng(seed)
        self._arrival_s: list[float] = trace.arrival_s.tolist()
        self._gpu_s: list[float] = trace.gpu_s.tolist()
        self._fleet = Fleet(settings.max_gangs, max(1, settings.node_gpus // settings.gang_size))
        self._queue = queue
        self._start_s = [-1.0] * len(trace)
        self._jobs = [-1] * settings.max_gangs
        self._since_s = [0.0] * settings.max_gangs
        self._events: list[tuple[float, int, int, int]] = []
        self._now_s = 0.0
        self._num_arrived = self._num_done = 0
        self._ends_s = 0.0  # sum over the busy gangs
        self._request_s = 0.0  # integral of the clips that wait or run
        self._windows: deque[tuple[float, float]] = deque([(0.0, 0.0)])
        self._held_gpu_s = self._useful_gpu_s = self._lost_gpu_s = self._loading_gpu_s = 0.0
        self._lost_runs = self._peak_gangs = 0
        self._targets: list[int] = []

    def run(self) -> Outcome:
        self._warm_up()
        arrivals, events, num_jobs = self._arrival_s, self._events, len(self._arrival_s)
        while self._num_done < num_jobs:
            arrived = self._num_arrived
            if arrived < num_jobs and arrivals[arrived] <= events[0][0]:
                self._advance(arrivals[arrived])
                self._num_arrived += 1
                self._queue.arrive(self._load())
                self._start_clips()
            else:
                time_s, kind, slot, epoch = heapq.heappop(events)
                self._advance(time_s)
                self._handle(kind, slot, epoch)
        return self._outcome()

    def _warm_up(self) -> None:
        self._fleet.target = self._settings.warm_gangs
        started, _ = self._fleet.settle()
        for slot in started:
            self._fleet.ready(slot)
        self._targets.append(self._fleet.target)
        self._peak_gangs = self._fleet.num_held
        self._push(0.0, _Event.TICK)
        self._plan_loss()

    def _advance(self, time_s: float) -> None:
        elapsed_s = time_s - self._now_s
        self._request_s += elapsed_s * (self._num_arrived - self._num_done)
        self._held_gpu_s += elapsed_s * self._fleet.num_held * self._settings.gang_size
        self._now_s = time_s

    def _handle(self, kind: int, slot: int, epoch: int) -> None:
        if kind == _Event.TICK:
            self._tick()
        elif kind == _Event.LOST:
            self._lose_node()
        elif kind == _Event.REPAIRED:
            self._fleet.repair(slot)
            self._settle()
        elif epoch == self._fleet.epochs[slot]:
            if kind == _Event.DONE:
                self._finish(slot)
            else:
                self._loading_gpu_s += self._gang_gpu_s(slot)
                self._fleet.ready(slot)
        self._start_clips()

    def _start_clips(self) -> None:
        queue = self._queue
        while queue:
            slot = self._fleet.take()
            if slot is None:
                return
            job = queue.take(self._load())
            gpu_s = self._gpu_s[job]
            end_s = self._now_s + gpu_s / self._settings.gang_size
            self._jobs[slot], self._since_s[slot], self._start_s[job] = (
                job,
                self._now_s,
                self._now_s,
            )
            self._ends_s += end_s
            self._push(end_s, _Event.DONE, slot)

    def _finish(self, slot: int) -> None:
        job = self._jobs[slot]
        self._ends_s -= self._now_s
        self._useful_gpu_s += self._gpu_s[job]
        self._num_done += 1
        self._fleet.done(slot)

    def _tick(self) -> None:
        target = self._controller.target(self._observe())
        if target != self._fleet.target:
            self._fleet.target = target
            self._targets.append(target)
            self._settle()
        elif target == 0 and self._queue and self._now_s - self._queue.oldest_s > DAY_S:
            raise ValueError("a clip has waited for a day, and the policy wants no gang")
        self._push(self._now_s + self._settings.tick_s, _Event.TICK)

    def _load(self) -> Load:
        busy_s = max(0.0, self._ends_s - self._fleet.num_busy * self._now_s)
        return Load(self._now_s, busy_s, self._fleet.num_running)

    def _observe(self) -> Observation:
        fleet = self._fleet
        load = self._load()
        held_gpu_s = load.busy_s * self._settings.gang_size
        signal = Signal(
            now_s=self._now_s,
            running_gangs=fleet.num_running,
            target_gangs=fleet.target,
            busy_gangs=fleet.num_busy,
            work_gpu_s=held_gpu_s + self._queue.gpu_s,
            num_clips=fleet.num_busy + len(self._queue),
            due=self._queue.most_pressing(load, held_gpu_s),
            min_gangs=self._settings.min_gangs,
            max_gangs=self._settings.max_gangs,
        )
        return Observation(signal, self._mean_requests())

    def _mean_requests(self) -> float:
        windows, now_s = self._windows, self._now_s
        while len(windows) > 1 and now_s - windows[1][0] >= self._settings.look_back_s:
            windows.popleft()
        since_s, before = windows[0]
        if now_s > since_s:
            windows.append((now_s, self._request_s))
            return (self._request_s - before) / (now_s - since_s)
        return float(self._num_arrived - self._num_done)

    def _settle(self) -> None:
        started, stopped = self._fleet.settle()
        for slot in stopped:
            self._loading_gpu_s += self._gang_gpu_s(slot)
        for slot in started:
            self._since_s[slot] = self._now_s
            self._push(self._now_s + self._settings.cold_start_s, _Event.READY, slot)
        self._peak_gangs = max(self._peak_gangs, self._fleet.num_held)

    def _lose_node(self) -> None:
        for slot, state in self._fleet.lose_node(int(self._rng.integers(self._fleet.num_nodes))):
            self._push(self._now_s + self._settings.repair_s, _Event.REPAIRED, slot)
            if state == Slot.LOADING:
                self._loading_gpu_s += self._gang_gpu_s(slot)
            elif state == Slot.BUSY:
                self._lose_run(slot)
        self._settle()
        self._plan_loss()

    def _lose_run(self, slot: int) -> None:
        job = self._jobs[slot]
        clip_s = self._gpu_s[job] / self._settings.gang_size
        self._ends_s -= self._since_s[slot] + clip_s
        self._lost_gpu_s += self._gang_gpu_s(slot)
        self._lost_runs += 1
        self._queue.put_back(job)

    def _plan_loss(self) -> None:
        mtbf_s = self._settings.node_mtbf_s
        if mtbf_s is not None:
            num_nodes = self._settings.num_gpus / self._settings.node_gpus
            self._push(self._now_s + self._rng.exponential(mtbf_s / num_nodes), _Event.LOST)

    def _gang_gpu_s(self, slot: int) -> float:
        """GPU-seconds of what a gang does now, so far."""
        return (self._now_s - self._since_s[slot]) * self._settings.gang_size

    def _push(self, time_s: float, kind: _Event, slot: int = 0) -> None:
        heapq.heappush(self._events, (time_s, int(kind), slot, self._fleet.epochs[slot]))

    def _outcome(self) -> Outcome:
        wait_s = np.array(self._start_s) - self._trace.arrival_s
        num_due, num_punctual = punctuality(self._trace, wait_s, self._settings.gang_size)
        return Outcome(
            wait_s=wait_s,
            end_s=self._now_s,
            held_gpu_s=self._held_gpu_s,
            useful_gpu_s=self._useful_gpu_s,
            lost_gpu_s=self._lost_gpu_s,
            loading_gpu_s=self._loading_gpu_s,
            lost_runs=self._lost_runs,
            targets=tuple(self._targets),
            peak_gangs=self._peak_gangs,
            num_due=num_due,
            num_punctual=num_punctual,
        )
