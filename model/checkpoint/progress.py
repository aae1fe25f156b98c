"""How far a load is, in the log, and how fast it was."""

import logging
import time
from dataclasses import dataclass

_INTERVAL_S = 10.0
_GB = 1e9

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadFigures:
    """Bytes that were read from files, and the seconds until the last was in its place."""

    num_bytes: int
    seconds: float


class Progress:
    """Counts bytes, and says now and then and at the end how many there are and how fast they come.

    Args:
        name: What is loaded.
        total: Bytes in all.
    """

    def __init__(self, name: str, total: int) -> None:
        self._name = name
        self._total = total
        self._done = 0
        self._begin_s = self._said_s = time.perf_counter()

    def add(self, num_bytes: int) -> None:
        """Counts bytes that have been read."""
        self._done += num_bytes
        now_s = time.perf_counter()
        if self._done == self._total or now_s - self._said_s >= _INTERVAL_S:
            self._said_s = now_s
            self._say()

    @property
    def figures(self) -> LoadFigures:
        """What has been read so far."""
        return LoadFigures(self._done, time.perf_counter() - self._begin_s)

    def _say(self) -> None:
        figures = self.figures
        _log.info(
            "read %.2f of %.2f GB of %s at %.2f GB/s",
            figures.num_bytes / _GB,
            self._total / _GB,
            self._name,
            figures.num_bytes / _GB / max(figures.seconds, 1e-9),
        )
