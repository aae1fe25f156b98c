"""What is known of the work, from admission to the last step, and its way through Serve."""

from dataclasses import replace

import pytest

from autoscaling.cost import CostModel
from autoscaling.followers import FollowerSettings
from autoscaling.policy import Due, GangSettings
from autoscaling.report import DUE_EDGES_S, WorkReport, most_pressing
from autoscaling.work import ClipWork, Ledger, StepTimes

GANGS = GangSettings(gpus_per_gang=8)
SHORT, LONG = ClipWork(32_760, 70), ClipWork(63_960, 70)
SHORT_GPU_S = CostModel().clip_gpu_s(32_760, 70, 8)


def ledger(gang_size: int = 8) -> Ledger:
    return Ledger(StepTimes(gang_size))


def told(book: Ledger, now_s: float = 0.0) -> WorkReport:
    return book.report(now_s, GANGS, {})


def test_work_is_what_is_left_to_do():
    book = ledger()
    assert told(book).work_gpu_s == told(book).clip_gpu_s == 0
    book.admit("a", SHORT)
    assert told(book).work_gpu_s == pytest.approx(SHORT_GPU_S)
    assert told(book).clip_gpu_s == pytest.approx(SHORT_GPU_S)
    step_s = CostModel().step_s(32_760, 8)
    for index in range(1, 36):
        book.step("a", index, index * step_s)
    assert told(book).work_gpu_s == pytest.approx(SHORT_GPU_S / 2)
    book.end("a")
    book.end("a")
    assert told(book).work_gpu_s == 0
    assert (told(book).held_clips, told(book).clip_gpu_s) == (0, pytest.approx(SHORT_GPU_S))


def test_a_size_that_has_run_is_known_and_teaches_about_the_others():
    book = ledger()
    predicted_s = CostModel().step_s(32_760, 8)
    book.admit("a", replace(SHORT, num_steps=1000))
    for index in range(1, 201):
        book.step("a", index, index * 3 * predicted_s)
    assert book.times.step_s(32_760) == pytest.approx(3 * predicted_s)
    assert book.times.step_s(63_960) == pytest.approx(3 * CostModel().step_s(63_960, 8), rel=1e-3)


def test_the_first_step_teaches_nothing_as_it_holds_the_wait():
    book = ledger()
    book.admit("a", SHORT)
    book.step("a", 1, 1e6)
    assert book.times.step_s(32_760) == CostModel().step_s(32_760, 8)


def test_sizes_that_are_remembered_are_bounded():
    times = StepTimes(8)
    for tokens in range(1, 2000):
        times.learn(tokens, 1.0)
    assert times.step_s(1999) == 1.0
    assert times.step_s(1) != 1.0


def test_the_queue_counts_until_its_gateways_are_gone():
    book = ledger()
    book.tell_queue((SHORT, LONG), 0.0)
    book.tell_queue((SHORT, SHORT), 1.0)
    assert told(book, 16.0).queued_clips == 2
    assert told(book, 16.0).work_gpu_s == pytest.approx(2 * SHORT_GPU_S)
    assert told(book, 17.0).queued_clips == 0


def test_deadlines_know_the_work_before_them():
    book = ledger()
    book.admit("a", SHORT)
    book.tell_queue((LONG, replace(SHORT, due_at_s=1500.0)), 1000.0)
    [due] = told(book, 1000.0).due
    assert due.start_in_s == pytest.approx(500.0 - SHORT_GPU_S / 8)
    long_gpu_s = CostModel().clip_gpu_s(63_960, 70, 8)
    assert due.ahead_gpu_s == pytest.approx(SHORT_GPU_S + long_gpu_s)


def test_a_clip_that_runs_needs_no_gang_for_its_deadline():
    book = ledger()
    book.admit("a", replace(SHORT, due_at_s=1500.0))
    assert told(book, 1000.0).due
    book.step("a", 1, 1001.0)
    assert not told(book, 1001.0).due


def test_the_most_pressing_of_many_deadlines_remain():
    crowd = [Due(float(seconds), 10.0 * seconds) for seconds in range(-5, 5000)]
    worst = Due(100.0, 99_999.0)
    chosen = most_pressing([*crowd, worst])
    assert worst in chosen
    assert len(chosen) == len(DUE_EDGES_S)
    assert all(due.start_in_s > 0 for due in chosen)


def test_a_report_survives_its_way_as_floats():
    settings = replace(GANGS, patience_s=7.0, max_step_up=3)
    followers = {"vae_decoder": FollowerSettings(9.0), "text_encoder": FollowerSettings(1.0, 0.5)}
    due = (Due(10.0, 20.0), Due(30.0, 40.0))
    report = WorkReport(2, 3, 1e4, 1e3, due, settings, followers)
    stats = report.as_stats()
    assert all(type(value) is float for value in stats.values())
    assert WorkReport.of(stats) == report
