"""The gangs of a simulation: slots that are free, loading, idle, busy or on a lost node."""

import heapq
from enum import IntEnum


class Slot(IntEnum):
    """What the GPUs of one gang do."""

    FREE = 0
    LOADING = 1
    IDLE = 2
    BUSY = 3
    AWAY = 4


class Fleet:
    """As many slots as gangs fit onto the GPUs, filled up to a target.

    Surplus gangs are taken from those that load, then from the idle, then from the busy, which
    finish their clip first.

    Args:
        num_slots: Gangs that fit.
        slots_per_node: Gangs that a node's loss takes along.
    """

    def __init__(self, num_slots: int, slots_per_node: int) -> None:
        self.target = 0
        self.leaving = 0  # busy gangs that go when their clip is done
        self.num_busy = 0
        self.epochs = [0] * num_slots  # tells an event of a gang from one of its predecessors
        self._states = [Slot.FREE] * num_slots
        self._slots_per_node = slots_per_node
        self._free = list(range(num_slots))
        self._in_free = [True] * num_slots
        self._loading: dict[int, None] = {}
        self._idle: dict[int, None] = {}

    @property
    def num_held(self) -> int:
        """Gangs whose GPUs are paid for."""
        return len(self._loading) + len(self._idle) + self.num_busy

    @property
    def num_running(self) -> int:
        """Gangs that take clips."""
        return len(self._idle) + self.num_busy - self.leaving

    @property
    def num_nodes(self) -> int:
        return -(-len(self._states) // self._slots_per_node)

    def settle(self) -> tuple[list[int], list[int]]:
        """Moves towards the target.

        Returns:
            The slots that begin to load, and those that stopped loading.
        """
        surplus = self.num_held - self.leaving - self.target
        return (self._grow(-surplus), []) if surplus <= 0 else ([], self._shrink(surplus))

    def ready(self, slot: int) -> None:
        """A gang has loaded."""
        del self._loading[slot]
        self._states[slot] = Slot.IDLE
        self._idle[slot] = None

    def take(self) -> int | None:
        """The gang that has been idle for the shortest time becomes busy."""
        if not self._idle:
            return None
        slot, _ = self._idle.popitem()
        self._states[slot] = Slot.BUSY
        self.num_busy += 1
        return slot

    def done(self, slot: int) -> None:
        """A gang has finished its clip; it leaves where one should."""
        self.num_busy -= 1
        if self.leaving:
            self.leaving -= 1
            self._free_up(slot)
        else:
            self._states[slot] = Slot.IDLE
            self._idle[slot] = None

    def lose_node(self, node: int) -> list[tuple[int, Slot]]:
        """A node is gone, until `repair`.

        Returns:
            Its slots with what they did; none if it is gone already.
        """
        first = node * self._slots_per_node
        slots = range(first, min(first + self._slots_per_node, len(self._states)))
        if self._states[first] == Slot.AWAY:
            return []
        return [(slot, self._lose(slot)) for slot in slots]

    def repair(self, slot: int) -> None:
        """A slot of a lost node is back."""
        self._free_up(slot)

    def _lose(self, slot: int) -> Slot:
        state = self._states[slot]
        self._loading.pop(slot, None)
        self._idle.pop(slot, None)
        self.num_busy -= state == Slot.BUSY
        self.leaving = min(self.leaving, self.num_busy)
        self.epochs[slot] += 1
        self._states[slot] = Slot.AWAY
        return state

    def _grow(self, count: int) -> list[int]:
        stay = min(self.leaving, count)
        self.leaving -= stay
        started: list[int] = []
        while len(started) < count - stay and self._free:
            slot = heapq.heappop(self._free)
            self._in_free[slot] = False
            if self._states[slot] == Slot.FREE:
                self._states[slot] = Slot.LOADING
                self._loading[slot] = None
                started.append(slot)
        return started

    def _shrink(self, count: int) -> list[int]:
        stopped: list[int] = []
        while count and self._loading:
            stopped.append(self._loading.popitem()[0])
            self._free_up(stopped[-1])
            count -= 1
        while count and self._idle:
            self._free_up(self._idle.popitem()[0])
            count -= 1
        self.leaving += count
        return stopped

    def _free_up(self, slot: int) -> None:
        self.epochs[slot] += 1
        self._states[slot] = Slot.FREE
        if not self._in_free[slot]:
            self._in_free[slot] = True
            heapq.heappush(self._free, slot)
