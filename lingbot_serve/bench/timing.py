"""Clocks, memory and the yardstick: what the device itself can do."""

import resource
import time

import torch

_GIB = 2**30
_MATMUL_SIZE = {"cuda": 8192, "cpu": 256}
_MATMUL_REPEATS = 50


def synchronise(device: torch.device) -> None:
    """Waits until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_tflops(device: torch.device, dtype: torch.dtype) -> float:
    """Rate of a square matrix product, 8192 wide on a GPU, back to back after some to warm up."""
    size = _MATMUL_SIZE[device.type]
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    for _ in range(5):
        torch.matmul(left, right)
    synchronise(device)
    begin_s = time.perf_counter()
    for _ in range(_MATMUL_REPEATS):
        torch.matmul(left, right)
    synchronise(device)
    return 2 * size**3 * _MATMUL_REPEATS / (time.perf_counter() - begin_s) / 1e12


def reset_peak(device: torch.device) -> None:
    """Forgets the largest allocation so far; a CPU process has only one peak."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_gib(device: torch.device) -> float:
    """Largest allocation on a GPU; of a CPU process, its largest size."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / _GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _GIB
