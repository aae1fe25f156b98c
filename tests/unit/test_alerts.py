"""Every alert fires when it should and keeps quiet when it should, judged by Prometheus itself."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from monitoring.dashboards.all import DASHBOARDS
from monitoring.generate import GROUPS
from monitoring.rules import alerts, objectives
from monitoring.rules.rule import Alert, Group

ROOT = Path(__file__).resolve().parents[2]
ALERTS = [rule for group in GROUPS for rule in group.rules if isinstance(rule, Alert)]

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is part of Debian's package prometheus"
)


@dataclass(frozen=True)
class Case:
    """Series in promtool's notation, one value a minute, and how many alerts fire at a time."""

    alert: str
    fires: int
    series: dict[str, str]
    at: str = "40m"


GANG = 'ray_lingbot_gang_state{gang="0", state="%s"}'
RESTARTS = 'ray_lingbot_gang_restarts_total{gang="0", cause="rank_died"}'
SLO = 'ray_lingbot_slo_jobs_total{objective="%s", attained="%s"}'
STEPS = 'ray_lingbot_rank_steps_total{gang="0", rank="%d"}'
STEP_SECONDS = 'ray_lingbot_rank_step_seconds_total{gang="0", rank="%d"}'
CANCEL = 'ray_lingbot_cancel_seconds_bucket{le="%s"}'
DECISIONS = 'ray_lingbot_autoscaling_decisions_total{stage="denoiser", direction="%s"}'
REPLICAS = 'ray_lingbot_autoscaling_replicas{stage="denoiser", kind="%s"}'
BUILD = 'ray_lingbot_build_info{component="gateway", version="%s"}'
CANARY = "ray_lingbot_canary_last_success_timestamp_seconds"
REFUSED = 'ray_lingbot_jobs_refused_total{code="%s"}'

# Seven hours of one job a minute; of the objective "completed" half a percent may fail.
EVEN = {SLO % ("completed", "true"): "0+1x420", SLO % ("completed", "false"): "0x420"}
# Then every second one fails.
HALF_FAIL = {
    SLO % ("completed", "true"): "0+1x350 350+0.5x70",
    SLO % ("completed", "false"): "0x350 0+0.5x70",
}
# A canary every five minutes, one of which failed just now.
ONE_CANARY_FAILED = {
    SLO % ("completed", "true"): "0+0.2x420",
    SLO % ("completed", "false"): "0x417 1x3",
}
# One in fifty fails all the time: four times the even pace.
DRIP = {SLO % ("completed", "true"): "0+0.98x420", SLO % ("completed", "false"): "0+0.02x420"}

CASES = [
    Case("LingbotGatewayGone", 1, {"other": "1x60"}),
    Case("LingbotGatewayGone", 0, {"lingbot_ready": "1x60"}),
    Case("LingbotNotReady", 1, {"lingbot_ready": "0x60"}),
    Case("LingbotNotReady", 0, {"lingbot_ready": "0x36 1x20"}),
    Case("LingbotStoreDown", 1, {"lingbot_store_up": "1x30 0x30"}),
    Case("LingbotStoreDown", 0, {"lingbot_store_up": "1x60"}),
    Case("LingbotCanaryStale", 1, {CANARY: "0x60"}, at="45m"),
    Case("LingbotCanaryStale", 1, {"other": "1x60"}),
    Case("LingbotCanaryStale", 0, {CANARY: "0+300x60"}),
    Case("LingbotVersionSkew", 1, {BUILD % "1": "1x90", BUILD % "2": "1x90"}, at="70m"),
    Case("LingbotVersionSkew", 0, {BUILD % "1": "1x90", BUILD % "2": "1x30"}, at="70m"),
    Case(
        "LingbotQueueOld",
        1,
        {'lingbot_queue_oldest_age_seconds{job_class="deadline", priority="low"}': "0+60x60"},
    ),
    Case(
        "LingbotQueueOld",
        0,
        {'lingbot_queue_oldest_age_seconds{job_class="deadline", priority="low"}': "900x60"},
    ),
    Case("LingbotQueueFull", 1, {REFUSED % "queue_full": "0+1x60"}),
    Case("LingbotQueueFull", 1, {REFUSED % "queue_wait_too_long": "0+1x60"}),
    Case("LingbotQueueFull", 0, {REFUSED % "queue_full": "0x10 5x50"}),
    Case("LingbotQueueFull", 0, {REFUSED % "invalid_value": "0+1x60"}),
    Case("LingbotJobsStuck", 1, {"lingbot_running_jobs": "1x60", STEPS % 0: "9x60"}),
    Case("LingbotJobsStuck", 0, {"lingbot_running_jobs": "1x60", STEPS % 0: "0+2x60"}),
    Case("LingbotJobsStuck", 0, {"lingbot_running_jobs": "0x60", STEPS % 0: "9x60"}),
    Case(
        "LingbotCancelSlow",
        1,
        {CANCEL % "60.0": "0x60", CANCEL % "120.0": "0+1x60", CANCEL % "+Inf": "0+1x60"},
    ),
    Case("LingbotCancelSlow", 0, {CANCEL % "0.5": "0+1x60", CANCEL % "+Inf": "0+1x60"}),
    Case("LingbotNoGang", 1, {GANG % "healing": "1x60", "lingbot_queue_jobs": "3x60"}),
    Case("LingbotNoGang", 1, {"lingbot_queue_jobs": "3x60"}),
    # Scaled to zero with nothing to do.
    Case("LingbotNoGang", 0, {"lingbot_queue_jobs": "0x60"}),
    Case("LingbotNoGang", 0, {GANG % "running": "1x60", "lingbot_queue_jobs": "3x60"}),
    Case("LingbotGangFlapping", 1, {RESTARTS: "0x10 1 2 3 4 5 5x30"}),
    Case("LingbotGangFlapping", 0, {RESTARTS: "0x10 1x40"}),
    Case("LingbotGangHealing", 1, {GANG % "healing": "1x60"}),
    Case("LingbotGangHealing", 0, {GANG % "healing": "0x30 1x30"}),
    Case("LingbotGangDead", 1, {GANG % "dead": "1x60"}),
    Case("LingbotGangDead", 0, {GANG % "dead": "0x60"}),
    Case(
        "LingbotRankStraggles",
        1,
        {
            STEPS % 0: "0+6x60",
            STEPS % 1: "0+6x60",
            STEP_SECONDS % 0: "0+60x60",
            STEP_SECONDS % 1: "0+40x60",
        },
    ),
    Case(
        "LingbotRankStraggles",
        0,
        {
            STEPS % 0: "0+6x60",
            STEPS % 1: "0+6x60",
            STEP_SECONDS % 0: "0+60x60",
            STEP_SECONDS % 1: "0+58x60",
        },
    ),
    Case(
        "LingbotGpuWaste",
        1,
        {
            'ray_lingbot_gpu_seconds_total{outcome="completed"}': "0+60x60",
            'ray_lingbot_gpu_seconds_total{outcome="cancelled"}': "0+60x60",
        },
        at="55m",
    ),
    Case("LingbotGpuWaste", 0, {'ray_lingbot_gpu_seconds_total{outcome="completed"}': "0+60x60"}),
    Case("LingbotScalingThrash", 1, {DECISIONS % "up": "0+0.2x60", DECISIONS % "down": "0+0.2x60"}),
    Case("LingbotScalingThrash", 0, {DECISIONS % "up": "0+0.2x60", DECISIONS % "down": "0x60"}),
    Case("LingbotScalingShort", 1, {REPLICAS % "target": "4x60", REPLICAS % "current": "2x60"}),
    Case(
        "LingbotScalingShort", 0, {REPLICAS % "target": "4x60", REPLICAS % "current": "2x20 4x40"}
    ),
    Case("LingbotBudgetBurnFast", 1, HALF_FAIL, at="410m"),
    Case("LingbotBudgetBurnFast", 0, EVEN, at="410m"),
    Case("LingbotBudgetBurnFast", 0, ONE_CANARY_FAILED, at="420m"),
    Case("LingbotBudgetBurnFast", 0, DRIP, at="410m"),
    Case("LingbotBudgetBurnMedium", 1, HALF_FAIL, at="410m"),
    Case("LingbotBudgetBurnMedium", 0, EVEN, at="410m"),
    Case("LingbotBudgetBurnMedium", 0, DRIP, at="410m"),
    Case("LingbotBudgetBurnSlow", 1, DRIP, at="410m"),
    Case("LingbotBudgetBurnSlow", 0, EVEN, at="410m"),
]


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    names = {alert.name for alert in ALERTS}
    assert {case.alert for case in CASES if case.fires} == names
    assert {case.alert for case in CASES if not case.fires} == names


@needs_promtool
def test_prometheus_accepts_the_rules(tmp_path: Path) -> None:
    check = promtool("check", "rules", str(write_rules(tmp_path)))
    assert check.returncode == 0, check.stdout + check.stderr


@needs_promtool
@pytest.mark.parametrize("budgets", [True, False], ids=["budgets", "others"])
def test_alerts_fire_when_they_should_and_only_then(tmp_path: Path, budgets: bool) -> None:
    groups = objectives.GROUPS if budgets else alerts.GROUPS
    write_rules(tmp_path, groups)
    tests = {
        "rule_files": ["rules.yaml"],
        # Coarse enough to be quick, and finer than every alert's `for` but the shortest.
        "evaluation_interval": "5m",
        "tests": [render(case) for case in CASES if ("Budget" in case.alert) == budgets],
    }
    (tmp_path / "tests.yaml").write_text(yaml.safe_dump(tests))
    outcome = promtool("test", "rules", str(tmp_path / "tests.yaml"))
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def render(case: Case) -> dict[str, object]:
    firing = f'count(ALERTS{{alertname="{case.alert}", alertstate="firing"}}) or vector(0)'
    return {
        "name": f"{case.alert} {'fires' if case.fires else 'keeps quiet'}",
        "interval": "1m",
        "input_series": [
            {"series": name, "values": values} for name, values in case.series.items()
        ],
        "promql_expr_test": [
            {
                "expr": firing,
                "eval_time": case.at,
                "exp_samples": [{"labels": "{}", "value": case.fires}],
            }
        ],
    }


def write_rules(folder: Path, groups: tuple[Group, ...] = GROUPS) -> Path:
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [group.render("docs/runbooks") for group in groups]}))
    return path


def promtool(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_every_alert_has_a_runbook(alert: Alert) -> None:
    page = ROOT / "docs" / "runbooks" / f"{alert.name}.md"
    assert page.is_file()
    text = page.read_text()
    assert text.startswith(f"# {alert.name}\n")
    assert alert.severity in ("page", "ticket")
    assert {"## Meaning", "## Look", "## Act"} <= set(text.splitlines())


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_runbooks_name_dashboards_and_panels_that_there_are(alert: Alert) -> None:
    text = (ROOT / "docs" / "runbooks" / f"{alert.name}.md").read_text()
    boards = {board.title.removeprefix("LingBot / "): board for board in DASHBOARDS}
    titles = {panel.title for board in DASHBOARDS for panel in board.panels}
    assert set(re.findall(r"[Dd]ashboard \*([^*]+)\*", text)) <= boards.keys()
    assert set(re.findall(r'"([^"]+)"', text)) <= titles
    linked = {name for name in re.findall(r"\]\((\w+)\.md\)", text)}
    assert linked <= {other.name for other in ALERTS}


def test_there_is_no_runbook_without_an_alert() -> None:
    pages = {page.stem for page in (ROOT / "docs" / "runbooks").glob("Lingbot*.md")}
    assert pages == {alert.name for alert in ALERTS}
