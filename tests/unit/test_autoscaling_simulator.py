"""What must hold in every simulation, and one whose answer a formula gives."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from autoscaling.cost import CostModel, latent_tokens
from autoscaling.policy import Due, GangSettings
from autoscaling.report import most_pressing
from autoscaling.simulator.clairvoyant import foresee
from autoscaling.simulator.controllers import (
    Controller,
    FixedController,
    RequestsController,
    WorkController,
)
from autoscaling.simulator.engine import FleetSettings, Outcome, simulate
from autoscaling.simulator.fleet import Fleet, Slot
from autoscaling.simulator.queue import Load, Queue
from autoscaling.simulator.recorded import read_trace
from autoscaling.simulator.report import summarise
from autoscaling.simulator.trace import (
    DAY_S,
    Asked,
    Trace,
    burst_arrivals,
    diurnal_arrivals,
    draw_costs,
    poisson_arrivals,
)

FLEET = FleetSettings(num_gpus=128)
FAILING = replace(FLEET, node_mtbf_s=20 * 3600.0)


def bursty(num_jobs: int = 3000, seed: int = 1) -> Trace:
    """A bursty trace of mixed sizes for `FLEET`."""
    rng = np.random.default_rng(seed)
    gpu_s = draw_costs(num_jobs, FLEET.gang_size, rng)
    return Trace(burst_arrivals(num_jobs, 0.3 * FLEET.num_gpus / gpu_s.mean(), rng), gpu_s)


def controllers() -> dict[str, Controller]:
    """New ones, since each remembers its run."""
    return {
        "work": WorkController(GangSettings(gpus_per_gang=8)),
        "requests": RequestsController(),
        "fixed": FixedController(10),
    }


def run(name: str, fleet: FleetSettings = FLEET, *, trace: Trace | None = None) -> Outcome:
    """One simulation of the bursty trace."""
    return simulate(trace or bursty(), fleet, controllers()[name], seed=3)


@pytest.mark.parametrize("fleet", [FLEET, FAILING], ids=["steady", "failing"])
@pytest.mark.parametrize("name", ["work", "requests", "fixed"])
def test_every_clip_is_served_and_every_second_accounted_for(name, fleet):
    trace, outcome = bursty(), run(name, fleet)
    assert len(outcome.wait_s) == len(trace)
    assert (outcome.wait_s >= 0).all()
    # Each clip's cost is counted when it is done, once.
    assert outcome.useful_gpu_s == pytest.approx(trace.gpu_s.sum(), rel=1e-12)
    spent = outcome.useful_gpu_s + outcome.lost_gpu_s + outcome.loading_gpu_s
    assert outcome.held_gpu_s >= spent * (1 - 1e-12)
    assert outcome.held_gpu_s <= FLEET.num_gpus * outcome.end_s
    assert outcome.peak_gangs <= FLEET.max_gangs
    ends_s = trace.arrival_s + outcome.wait_s + trace.gpu_s / FLEET.gang_size
    assert outcome.end_s == pytest.approx(ends_s.max())


def test_lost_nodes_lose_no_clip():
    outcome, spared = run("work", FAILING), run("work")
    assert outcome.lost_runs > 5
    assert outcome.lost_gpu_s > 0
    assert outcome.useful_gpu_s == pytest.approx(spared.useful_gpu_s, rel=1e-12)
    assert spared.lost_runs == 0
    assert spared.lost_gpu_s == 0


def test_lost_clip_is_next_and_its_seconds_are_counted_once():
    # One gang that always loads or works, since all clips wait from the start.
    trace = Trace(np.zeros(20), np.full(20, 8000.0))
    fleet = FleetSettings(num_gpus=8, warm_gangs=1, node_mtbf_s=4000.0, repair_s=0.0)
    outcome = simulate(trace, fleet, FixedController(1), seed=2)
    assert outcome.lost_runs > 2
    assert (np.diff(outcome.wait_s) > 0).all()
    spent = outcome.useful_gpu_s + outcome.lost_gpu_s + outcome.loading_gpu_s
    assert outcome.held_gpu_s == pytest.approx(spent, rel=1e-9)


def test_lost_gangs_no_longer_owe_their_leave():
    fleet = Fleet(num_slots=3, slots_per_node=1)
    fleet.target = 2
    for slot in fleet.settle()[0]:
        fleet.ready(slot)
    assert {fleet.take(), fleet.take()} == {0, 1}
    fleet.target = 1
    assert fleet.settle() == ([], [])
    assert (fleet.num_running, fleet.leaving) == (1, 1)
    assert fleet.lose_node(0) == [(0, Slot.BUSY)]
    assert fleet.lose_node(0) == []
    assert fleet.lose_node(1) == [(1, Slot.BUSY)]
    assert (fleet.num_held, fleet.num_running, fleet.leaving) == (0, 0, 0)
    assert fleet.settle() == ([2], [])
    fleet.target = 3
    assert fleet.settle() == ([], [])
    fleet.repair(0)
    assert fleet.settle() == ([0], [])


def test_deadlines_are_kept_where_gangs_are_added_for_them():
    """One gang would need 100 s for each clip; those that are due get theirs, the rest can wait."""
    lazy = GangSettings(gpus_per_gang=8, drain_target_s=1e6, cold_start_s=50)
    fleet = FleetSettings(num_gpus=80, cold_start_s=50.0, min_gangs=1, warm_gangs=1)
    arrival_s, gpu_s = np.zeros(10), np.full(10, 800.0)
    whenever = simulate(Trace(arrival_s, gpu_s), fleet, WorkController(lazy))
    assert (whenever.peak_gangs, whenever.num_due, whenever.num_punctual) == (1, 0, 0)
    due = Trace(arrival_s, gpu_s, np.full(10, 450.0))
    punctual = simulate(due, fleet, WorkController(lazy))
    assert (punctual.num_due, punctual.num_punctual) == (10, 10)
    assert 1 < punctual.peak_gangs <= 5


def test_the_queue_reports_what_the_ledger_would():
    rng = np.random.default_rng(4)
    arrival_s, gpu_s = np.sort(rng.uniform(0, 50, 300)), rng.uniform(10, 1000, 300)
    due_s = arrival_s + rng.choice([60.0, 600.0, math.inf], 300)
    queue = Queue(Trace(arrival_s, gpu_s, due_s + 200), 8)
    for _ in range(200):
        queue.arrive(Load(0.0, 0.0, 1))
    waiting = [queue.take(Load(0.0, 0.0, 1)) for _ in range(50)]
    queue.put_back(waiting.pop())
    assert queue.gpu_s == pytest.approx(gpu_s[49:200].sum())
    ahead = 500.0 + np.cumsum(gpu_s[49:200]) - gpu_s[49:200]
    start_in_s = (due_s + 200 - gpu_s / 8)[49:200] - 50.0
    finite = np.isfinite(start_in_s)
    each = [Due(s, a) for s, a in zip(start_in_s[finite], ahead[finite], strict=True)]
    expected = [(due.start_in_s, pytest.approx(due.ahead_gpu_s)) for due in most_pressing(each)]
    found = queue.most_pressing(Load(50.0, 0.0, 1), 500.0)
    assert [(due.start_in_s, due.ahead_gpu_s) for due in found] == expected


def test_a_clip_cannot_be_due_before_it_comes():
    with pytest.raises(ValueError, match="due after its arrival"):
        Trace(np.zeros(1), np.ones(1), np.zeros(1))


@pytest.mark.parametrize("name", ["work", "requests", "fixed"])
def test_never_more_clips_at_once_than_gangs(name):
    trace, outcome = bursty(), run(name)
    starts_s = trace.arrival_s + outcome.wait_s
    ends_s = starts_s + trace.gpu_s / FLEET.gang_size
    # At one time an end counts before a start; rounding must not turn them.
    moments = sorted([(round(t, 6), -1) for t in ends_s] + [(round(t, 6), 1) for t in starts_s])
    at_once = np.cumsum([change for _, change in moments])
    assert at_once.max() <= outcome.peak_gangs


def test_first_come_first_served():
    trace, outcome = bursty(), run("work")
    assert (np.diff(trace.arrival_s + outcome.wait_s) >= -1e-6).all()


@pytest.mark.parametrize("name", ["work", "requests"])
def test_nobody_beats_the_clairvoyant(name):
    trace, outcome = bursty(), run(name)
    known = foresee(trace, FLEET)
    assert (known.wait_s <= outcome.wait_s + 1e-6).all()
    assert known.least_gpu_s <= known.plan_gpu_s
    assert known.least_gpu_s <= outcome.held_gpu_s


def test_clairvoyant_on_a_trace_that_can_be_done_by_hand():
    # Clips of 100 s on one of two gangs; cold start 120 s.
    trace = Trace(np.array([0.0, 10.0, 20.0, 400.0]), np.full(4, 800.0))
    known = foresee(trace, FleetSettings(num_gpus=16))
    assert known.wait_s.tolist() == [0, 0, 80, 0]
    # Two gangs load; the third clip follows the first; the fourth gap of 200 s loads anew.
    assert known.plan_gpu_s == 8 * (4 * 100 + 2 * 120 + 0 + 120)


@pytest.mark.parametrize("fleet", [FLEET, FAILING], ids=["steady", "failing"])
def test_same_seed_same_outcome(fleet):
    first, second = run("work", fleet), run("work", fleet)
    assert (first.wait_s == second.wait_s).all()
    assert first.targets == second.targets
    assert first.held_gpu_s == second.held_gpu_s


def test_seed_decides_which_nodes_are_lost():
    first = simulate(bursty(), FAILING, controllers()["work"], seed=3)
    other = simulate(bursty(), FAILING, controllers()["work"], seed=4)
    assert not (first.wait_s == other.wait_s).all()


@pytest.mark.parametrize(("num_gangs", "load"), [(1, 0.5), (4, 0.7), (16, 0.85)])
def test_mean_wait_is_erlangs(num_gangs, load):
    """M/M/c: exponential gaps and costs on a fleet that does not scale."""
    num_jobs, service_s = 150_000, 100.0
    rng = np.random.default_rng(7)
    arrivals = poisson_arrivals(num_jobs, load * num_gangs / service_s, rng)
    trace = Trace(arrivals, rng.exponential(service_s, num_jobs))
    # Ticks change nothing here, so there are few.
    fleet = FleetSettings(num_gpus=num_gangs, gang_size=1, warm_gangs=num_gangs, tick_s=1e6)
    outcome = simulate(trace, fleet, FixedController(num_gangs))
    assert outcome.wait_s.mean() == pytest.approx(
        erlang_c(num_gangs, load * num_gangs) * service_s / (num_gangs * (1 - load)), rel=0.06
    )
    utilisation = outcome.useful_gpu_s / outcome.held_gpu_s
    assert utilisation == pytest.approx(load, rel=0.02)


def erlang_c(servers: int, offered: float) -> float:
    """Probability that a customer waits (A. K. Erlang, 1917)."""
    below = sum(offered**k / math.factorial(k) for k in range(servers))
    full = offered**servers / math.factorial(servers) * servers / (servers - offered)
    return full / (below + full)


def test_first_clip_waits_for_the_cold_start():
    trace = Trace(np.array([5.0]), np.array([800.0]))
    outcome = run("work", trace=trace)
    # The tick after the arrival asks for a gang, which loads for 120 s.
    assert outcome.wait_s.tolist() == [10.0 - 5.0 + 120.0]
    assert outcome.end_s == 230.0
    assert outcome.held_gpu_s == 8 * (120.0 + 100.0)
    assert outcome.loading_gpu_s == 8 * 120.0


def test_idle_fleet_goes_to_zero_and_comes_back():
    trace = Trace(np.array([0.0, 20_000.0]), np.array([800.0, 800.0]))
    outcome = run("work", trace=trace)
    assert outcome.targets == (0, 1, 0, 1)
    # 900 s without work until the last gang goes.
    assert outcome.held_gpu_s < 8 * (2 * 220 + 950)


def test_busy_gang_finishes_its_clip_before_it_leaves():
    trace = Trace(np.array([0.0, 0.0, 3000.0]), np.array([16_000.0, 800.0, 800.0]))

    class Shrinking:
        def target(self, seen):
            return 2 if seen.signal.now_s < 400 else 1

    outcome = simulate(trace, FLEET, Shrinking())
    assert outcome.wait_s.tolist()[:2] == [120.0, 120.0]
    assert outcome.lost_runs == 0
    assert outcome.useful_gpu_s == trace.gpu_s.sum()


def test_policy_that_never_starts_a_gang_is_found_out():
    trace = Trace(np.array([0.0]), np.array([800.0]))
    with pytest.raises(ValueError, match="waited for a day"):
        simulate(trace, FLEET, FixedController(0))


def test_report_counts_turns():
    outcome = replace(run("work"), targets=(0, 2, 4, 3, 3 + 1, 0))
    report = summarise(outcome, 2.0)
    assert (report.scale_ups, report.scale_downs, report.reversals) == (3, 2, 3)
    assert report.cost == pytest.approx(2 * outcome.held_gpu_s / 3600)
    assert 0 < report.utilisation < 1


@pytest.mark.parametrize("arrivals", [poisson_arrivals, burst_arrivals, diurnal_arrivals])
def test_arrivals_have_the_rate_that_was_asked_for(arrivals):
    times_s = arrivals(200_000, 0.1, np.random.default_rng(0))
    assert len(times_s) == 200_000
    assert (np.diff(times_s) >= 0).all()
    assert times_s[-1] == pytest.approx(2e6, rel=0.1)


def test_bursts_vary_more_than_chance_and_days_have_nights():
    rng = np.random.default_rng(0)
    even, bursts = poisson_arrivals(50_000, 0.1, rng), burst_arrivals(50_000, 0.1, rng)
    spread = [np.histogram(t, bins=np.arange(0, 5e5, 600))[0].var() for t in (even, bursts)]
    assert spread[1] > 10 * spread[0]
    of_day_s = diurnal_arrivals(50_000, 0.1, rng) % DAY_S
    noon = ((of_day_s > 0.4 * DAY_S) & (of_day_s < 0.6 * DAY_S)).sum()
    assert noon > 5 * ((of_day_s < 0.1 * DAY_S) | (of_day_s > 0.9 * DAY_S)).sum()


def test_recorded_trace(tmp_path):
    jobs = [
        {"arrival_s": 1060.0, "gpu_s": 500.0},
        {"arrival_s": 1000.0, "num_frames": 81, "height": 480, "width": 832, "num_steps": 70},
    ]
    file = tmp_path / "trace.jsonl"
    file.write_text("\n".join(json.dumps(job) for job in jobs) + "\n\n")
    trace = read_trace(file, 8)
    assert trace.arrival_s.tolist() == [0, 60]
    clip_gpu_s = CostModel().clip_gpu_s(latent_tokens(81, 480, 832), 70, 8)
    assert trace.gpu_s.tolist() == [clip_gpu_s, 500.0]


def test_recorded_trace_says_whose_clips_they_are(tmp_path):
    file = tmp_path / "trace.jsonl"
    rival = {"arrival_s": 3.0, "gpu_s": 80.0, "key": "1", "priority": "high"}
    mine = {"arrival_s": 2.0, "gpu_s": 80.0, "predicted_gpu_s": 160.0, "deadline_s": None}
    file.write_text(json.dumps(rival) + "\n" + json.dumps({**mine, "wait_s": 5}))
    trace = read_trace(file, 8)
    assert trace.asked == (Asked("", "normal", 20.0), Asked("1", "high", 10.0))
    assert trace.due_s is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no jobs"),
        ('{"arrival_s": 1, "gpu_s": 1}\n{', ":2:"),
        ('{"gpu_s": 1}', "arrival_s"),
        ('{"arrival_s": 1, "num_frames": 81}', "height"),
        ('{"arrival_s": 1, "gpu_s": 1, "priority": "urgent"}', "urgent"),
        ('{"arrival_s": 1, "gpu_s": -1}', "costs positive"),
        ('{"arrival_s": 1, "gpu_s": NaN}', "finite"),
        ("[1, 2]", ":1:"),
    ],
)
def test_wrong_trace_is_refused(tmp_path, text, message):
    file = tmp_path / "trace.jsonl"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_trace(file, 8)


@pytest.mark.parametrize(
    "wrong",
    [{"gang_size": 256}, {"min_gangs": 17}, {"tick_s": 0}, {"node_mtbf_s": 0}, {"node_gpus": 0}],
)
def test_impossible_machines_are_refused(wrong):
    with pytest.raises(ValueError):
        replace(FLEET, **wrong)


@pytest.mark.parametrize(
    ("num_gpus", "gang_size", "node_gpus", "gangs"),
    [(64, 8, 8, 8), (64, 3, 8, 16), (12, 3, 8, 3), (64, 16, 8, 4), (64, 12, 8, 4), (4, 1, 8, 4)],
)
def test_no_gang_shares_a_node_s_left_over_gpus(num_gpus, gang_size, node_gpus, gangs):
    fleet = FleetSettings(num_gpus=num_gpus, gang_size=gang_size, node_gpus=node_gpus)
    assert fleet.max_gangs == gangs


def test_clips_wait_less_for_no_more_gpu_hours():
    work, shipped = run("work"), run("requests")
    assert work.held_gpu_s < shipped.held_gpu_s
    assert np.quantile(work.wait_s, 0.95) < np.quantile(shipped.wait_s, 0.95)
    assert work.wait_s.mean() < 0.9 * shipped.wait_s.mean()
