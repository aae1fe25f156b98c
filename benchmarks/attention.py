"""Which attention kernel is the fastest on this GPU, at the lengths that clips have?

    python -m benchmarks.attention

The rate counts 4*L*L*dim floating-point operations; an 8192x8192x8192 matrix product in bf16,
timed in the same run, says what the GPU can do.
"""

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.report import write_report
from model.attention import cudnn, sdpa

NUM_HEADS, HEAD_DIM = 40, 128
LENGTHS = {"480x832, 81 frames": 32_760, "480x832, 161 frames": 63_960}
REPEATS = 5


def torch_flash(q_BLNH: Tensor, k_BLNH: Tensor, v_BLNH: Tensor) -> Tensor:
    """The FlashAttention-2 that comes with PyTorch."""
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return sdpa(q_BLNH, k_BLNH, v_BLNH)


def rate_tflops(work_flop: float, run: object, *args: Tensor) -> float:
    """Best rate of some runs."""
    assert callable(run)
    times_ms = []
    for _ in range(REPEATS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run(*args)
        end.record()
        torch.cuda.synchronize()
        times_ms.append(begin.elapsed_time(end))
    return round(work_flop / min(times_ms) / 1e9, 1)


def main() -> None:
    """Runs the benchmark and writes `docs/benchmarks/attention.json`."""
    device = torch.device("cuda")
    square = torch.randn(2, 8192, 8192, device=device, dtype=torch.bfloat16)
    report: dict[str, object] = {
        "gpu": torch.cuda.get_device_name(),
        "matmul_tflops": rate_tflops(2 * 8192**3, torch.matmul, square[0], square[1]),
    }
    for name, length in LENGTHS.items():
        size = (1, length, NUM_HEADS, HEAD_DIM)
        qkv = [torch.randn(size, device=device, dtype=torch.bfloat16) for _ in range(3)]
        work = 4 * length**2 * NUM_HEADS * HEAD_DIM
        kernels = {"cudnn": cudnn, "torch_flash": torch_flash, "sdpa_default": sdpa}
        report[name] = {kernel: rate_tflops(work, run, *qkv) for kernel, run in kernels.items()}
    write_report("attention", report)


if __name__ == "__main__":
    main()
