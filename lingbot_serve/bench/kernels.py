"""Where the time on the device goes, by kind of kernel."""

from collections import Counter
from collections.abc import Callable, Mapping

import torch
from torch.profiler import ProfilerActivity, profile

from lingbot_serve.bench.kernel_kinds import KernelKind, kernel_kind


def kernel_shares(run: Callable[[], object], device: torch.device) -> Mapping[str, float]:
    """Runs something under the profiler.

    Returns:
        Share of the time on the device by kind; they add up to 1. Kernels that run side by side
        both count.
    """
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]
    with profile(activities=activities) as profiler:
        run()
        if on_gpu:
            torch.cuda.synchronize(device)
    wanted = "CUDA" if on_gpu else "CPU"
    times_us: Counter[str] = Counter()
    for event in profiler.key_averages():
        if event.device_type.name == wanted and not event.is_user_annotation:
            time_us = event.self_device_time_total if on_gpu else event.self_cpu_time_total
            times_us[kernel_kind(event.key).value] += time_us
    total_us = sum(times_us.values()) or 1.0
    return {kind.value: round(times_us[kind.value] / total_us, 4) for kind in KernelKind}
