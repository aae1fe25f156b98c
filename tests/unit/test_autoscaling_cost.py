"""Predicted costs against published FLOPs and measured times, and what steps teach."""

import pytest

from autoscaling.cost import CostModel, StepTimeCorrection, latent_tokens

SIZES = [(81, 480, 832), (161, 480, 832), (81, 720, 1280), (161, 720, 1280), (961, 480, 832)]


@pytest.mark.parametrize(
    ("size", "tokens", "linear", "attention"),
    [
        (SIZES[0], 32_760, 1.06e15, 0.89e15),
        (SIZES[1], 63_960, 2.07e15, 3.38e15),
        (SIZES[2], 75_600, 2.45e15, 4.71e15),
        (SIZES[3], 147_600, 4.78e15, 17.9e15),
        (SIZES[4], 375_960, 12.2e15, 116e15),
    ],
)
def test_flops_of_a_forward(size, tokens, linear, attention):
    model = CostModel()
    assert latent_tokens(*size) == tokens
    assert model.linear_flops(tokens) == pytest.approx(linear, rel=0.01)
    assert model.attention_flops(tokens) == pytest.approx(attention, rel=0.01)


@pytest.mark.parametrize(("tokens", "measured_s"), [(32_760, 4.38), (63_960, 11.48)])
def test_forward_takes_what_was_measured_on_one_h200(tokens, measured_s):
    model = CostModel()
    assert model.step_s(tokens, 1) / model.forwards_per_step == pytest.approx(measured_s, rel=0.06)


def test_gang_is_faster_but_costs_more():
    model = CostModel()
    assert model.step_s(63_960, 8) < model.step_s(63_960, 4) < model.step_s(63_960, 1)
    assert model.clip_gpu_s(63_960, 70, 8) == pytest.approx(
        model.clip_gpu_s(63_960, 70, 1) / 0.98**3
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"efficiency": 0},
        {"efficiency": 1.1},
        {"efficiency_per_doubling": 0},
        {"linear_flops_per_s": 0},
        {"attention_flops_per_s": -1},
    ],
)
def test_impossible_coefficients_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CostModel(**wrong)


def test_correction_converges_to_the_measured_ratio():
    correction = StepTimeCorrection()
    for _ in range(100):
        correction = correction.learned(predicted_s=2.0, measured_s=3.0)
    assert correction.factor == pytest.approx(1.5, rel=1e-3)


def test_one_slow_step_moves_the_correction_a_little():
    known = StepTimeCorrection(num_learned=50)
    slow = known.learned(predicted_s=1.0, measured_s=10.0)
    assert slow.factor == pytest.approx(10**0.1)
    assert slow.learned(predicted_s=10.0, measured_s=1.0).factor < slow.factor


def test_the_first_steps_count_alike_and_what_was_assumed_before_them_for_nothing():
    correction = StepTimeCorrection()
    for measured_s in (1e3, 1e-1, 1e1):
        correction = correction.learned(predicted_s=1.0, measured_s=measured_s)
    assert correction.factor == pytest.approx(10.0)


@pytest.mark.parametrize(("predicted_s", "measured_s"), [(0.0, 1.0), (1.0, 0.0), (1.0, -1.0)])
def test_step_without_duration_is_refused(predicted_s, measured_s):
    with pytest.raises(ValueError, match="positive"):
        StepTimeCorrection().learned(predicted_s=predicted_s, measured_s=measured_s)


def test_weight_must_be_a_share():
    with pytest.raises(ValueError, match="weight"):
        StepTimeCorrection(weight=0)
