"""How the ranks of a gang agree, at a step boundary, whether to go on.

The owner tells rank 0 alone, at any time. At each boundary rank 0 broadcasts whether the job is to
end, so that all ranks do so at the same step: a rank that stopped alone would leave the others in a
collective. A boundary costs one int64 broadcast over gloo (on loopback about 0.1 ms; O(log N) in
ranks).
"""

import threading

import torch
import torch.distributed as dist

from model.errors import DenoiseCancelled


class Cancels:
    """The jobs that are to end; filled by one thread, read by another."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._job_ids: set[str] = set()

    def add(self, job_id: str) -> None:
        """Keeps a cancel until its job's next step boundary."""
        with self._lock:
            self._job_ids.add(job_id)

    def take(self, job_id: str) -> bool:
        """Whether a job was cancelled; forgets those of all others, which came too late."""
        with self._lock:
            job_ids, self._job_ids = self._job_ids, set()
        return job_id in job_ids


class StepControl:
    """The step boundaries of one job on one rank.

    Args:
        job_id: The job.
        cancels: Of this rank; only those of rank 0 are ever filled.
        group: A gloo group of all ranks.
    """

    def __init__(self, job_id: str, cancels: Cancels, group: dist.ProcessGroup) -> None:
        self._job_id = job_id
        self._cancels = cancels
        self._group = group

    def agree(self) -> None:
        """Passes a step boundary; every rank calls this equally often.

        Raises:
            DenoiseCancelled: On every rank, if the job is to end here.
        """
        ends = torch.tensor([int(self._cancels.take(self._job_id))], dtype=torch.int64)
        dist.broadcast(ends, src=0, group=self._group)
        if ends.item():
            raise DenoiseCancelled(f"job {self._job_id} was cancelled")
