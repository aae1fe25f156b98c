"""Benchmark rows that a known machine would have left."""

from dataclasses import asdict

from lingbot_serve.bench.clips import Clip
from lingbot_serve.bench.cost_model import ForwardModel, rank_work
from lingbot_serve.bench.flops import forward_flop
from lingbot_serve.bench.records import DitRow, E2eRow, Origin, VaeRow

H200 = Origin(
    gpu="NVIDIA H200",
    driver="580.1",
    versions={"torch": "2.11.0"},
    date="2026-11-22",
    commit="abc",
    host_cpus=64,
)

KNOWN = ForwardModel(
    gemm_flop_per_s=700e12,
    attention_flop_per_s=600e12,
    elementwise_s_per_token=4e-6,
    exchange_bytes_per_s=300e9,
    exposed_in_pairs=0.25,
    pair_factor=0.95,
    gather_bytes_per_s=None,
)


def dit_row(gpus: int, clip: str = "480x832x81", *, model: ForwardModel = KNOWN) -> DitRow:
    """A forward on a machine that the model describes exactly."""
    parsed = Clip.parse(clip)
    work = rank_work(parsed.num_tokens, gpus)
    seconds = model.forward_s(work)
    shares = {
        "gemm": work.gemm_flop / model.gemm_flop_per_s / seconds,
        "attention": work.attention_flop / model.attention_flop_per_s / seconds,
        "norm_elementwise": work.tokens * model.elementwise_s_per_token / seconds,
        "copy": 0.0,
        "communication": work.exchanged_bytes / model.exchange_bytes_per_s / seconds,
    }
    tflops = forward_flop(parsed.num_tokens) / seconds / 1e12
    alone = gpus == 1
    return DitRow(
        **asdict(H200),
        model="base-cam",
        gpus=gpus,
        cfg_parallel=False,
        size=parsed.size,
        frames=parsed.frames,
        attention="flash_attn_3",
        sharding="none",
        experts=2,
        compile=True,
        dtype="bfloat16",
        seconds=seconds,
        tflops=tflops,
        matmul_tflops=790.0,
        matmul_after_tflops=700.0,
        ratio=tflops / gpus / 790.0,
        peak_gib=90.0,
        kept_modulations=1.0,
        kernel_shares=shares,
        pair_seconds=model.pair_s(work),
        silent_seconds=None if alone else model.compute_s(work),
        silent_pair_seconds=None if alone else 2 * model.pair_factor * model.compute_s(work),
    )


def vae_row(seconds: float, *, compiled: bool) -> VaeRow:
    """Decoding a clip of 81 frames in so long."""
    figures = {"seconds": seconds, "psnr_db": 49.0, "peak_gib": 11.0, "first_s": 47.0}
    case = {"direction": "decode", "size": "480x832", "frames": 81, "dtype": "bfloat16"}
    return VaeRow(**asdict(H200), **case, **figures, compile=compiled)


def e2e_row(steps: int) -> E2eRow:
    """A clip on four GPUs that takes hardly more than its parts, on a service started twice."""
    return E2eRow(
        **asdict(H200),
        gpus=4,
        cfg_parallel=False,
        size="480x832",
        frames=81,
        steps=steps,
        attention="flash_attn_3",
        sharding="none",
        compile=True,
        wall_s=103.0,
        forward_s=0.7,
        encode_s=1.0,
        decode_s=1.0,
        ratio=1.03,
        ratio_to_pairs=1.04,
        ready_s=150.0,
        load_s=60.0,
        warm_up_s=70.0,
        stage_durations={"denoiser": 101.0},
        second_ready_s=50.0,
        second_gang_s=45.0,
        second_load_s=30.0,
        second_warm_up_s=8.0,
        second_waited_s={"gateway": 9.0, "denoiser": 49.9},
    )
