"""The cost model finds the rates of a machine that it describes, and says where it does not."""

from dataclasses import replace

import pytest

from lingbot_serve.bench.claims import Results
from lingbot_serve.bench.cost_model import fit, fitted_rows, rank_work, relative_error
from lingbot_serve.bench.flops import DiTSizes
from lingbot_serve.bench.forecast import fitted_model, forecasts
from tests.support.bench_rows import H200, KNOWN, dit_row

CLIPS = ("480x832x81", "480x832x161", "720x1280x81")
ROWS = [dit_row(gpus, clip) for gpus in (1, 2, 4) for clip in CLIPS]


def test_known_rates_are_found():
    model = fit(ROWS)
    for name in ("gemm_flop_per_s", "attention_flop_per_s", "elementwise_s_per_token"):
        assert getattr(model, name) == pytest.approx(getattr(KNOWN, name))
    assert model.exchange_bytes_per_s == pytest.approx(KNOWN.exchange_bytes_per_s)
    assert model.exposed_in_pairs == pytest.approx(KNOWN.exposed_in_pairs)
    assert model.pair_factor == pytest.approx(KNOWN.pair_factor)
    assert max(abs(relative_error(model, row)) for row in ROWS) < 1e-9


def test_gathering_has_its_rate():
    sharded = replace(dit_row(4), sharding="per_expert", gather_s=0.1)
    model = fit(ROWS, [sharded])
    assert model.gather_s(4) == pytest.approx(0.1)
    assert model.gather_s(8) == pytest.approx(0.1 * (7 / 8) / (3 / 4))


def test_slow_row_is_reported_as_an_error():
    slow = replace(ROWS[0], seconds=2 * ROWS[0].seconds)
    assert relative_error(KNOWN, slow) == pytest.approx(-0.5)


def test_rows_without_a_profile_cannot_be_fitted():
    with pytest.raises(ValueError, match="shares by kind"):
        fit([replace(row, kernel_shares={}) for row in ROWS])


def test_only_comparable_rows_are_fitted():
    fast = dit_row(1)
    others = [
        replace(fast, attention="cudnn", tflops=fast.tflops - 1),
        replace(fast, compile=False),
        replace(fast, sharding="per_expert", gpus=4),
        replace(fast, gpu="NVIDIA H100"),
        replace(fast, model="tiny"),
        replace(fast, cfg_parallel=True, gpus=2),
        replace(fast, experts=1),
    ]
    assert fitted_rows([*others, fast], gpu=H200.gpu) == [fast]
    assert fitted_rows(others[1:-1], gpu=H200.gpu) == []
    assert fitted_rows(others[-1:], gpu=H200.gpu) == others[-1:]


def test_work_of_a_rank():
    alone, shared = rank_work(32_760, 1), rank_work(32_760, 8)
    assert alone.exchanged_bytes == 0
    assert shared.gemm_flop == pytest.approx(alone.gemm_flop / 8)
    # 40 layers, q k v o, 5120 bf16 values of a token, seven eighths of which leave.
    assert shared.exchanged_bytes == pytest.approx(40 * 4 * 5120 * 2 * 4095 * 7 / 8)
    anew = rank_work(32_760, 1, kept_modulations=0.0)
    assert anew.gemm_flop == pytest.approx(DiTSizes().linear_flop_per_token * 32_760)
    assert alone.gemm_flop < anew.gemm_flop


def test_forecasts_follow_the_model():
    fitted = fitted_model(Results(dit=ROWS))
    assert fitted is not None
    assert fitted.held_out == pytest.approx(0, abs=1e-9)
    by_layout = {
        (each.layout.name, each.size, each.frames): each.step_s for each in forecasts(fitted.model)
    }
    expected = KNOWN.pair_s(rank_work(63_960, 8))
    assert by_layout["8 GPUs: Ulysses 8", "480x832", 161] == pytest.approx(expected)
    names = {name for name, _, _ in by_layout}
    assert len(names) == 3
    two_hosts = next(name for name in names if name.startswith("2 hosts"))
    halves = by_layout[two_hosts, "720x1280", 161] / by_layout["8 GPUs: Ulysses 8", "720x1280", 161]
    assert 0.45 < halves < 0.6  # a prompt each instead of both


def test_nothing_measured_is_no_model():
    assert fitted_model(Results()) is None
