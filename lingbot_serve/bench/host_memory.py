"""How much memory of the host a piece of work takes at its peak."""

import threading
from pathlib import Path
from types import TracebackType

_SAMPLE_S = 0.01
_KIB = 1024


class HostMemoryPeak:
    """Samples this process while the context lasts; pages of mapped files count too."""

    def __init__(self) -> None:
        self._before = self._peak = _resident_bytes()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "HostMemoryPeak":
        self._before = self._peak = _resident_bytes()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    @property
    def grown_bytes(self) -> int:
        """The peak above what was there at the beginning."""
        return self._peak - self._before

    def _sample(self) -> None:
        while not self._over.wait(_SAMPLE_S):
            self._peak = max(self._peak, _resident_bytes())


def _resident_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * _KIB
    return 0
