"""Recorded signals and the alerts on them, apart from those on error budgets."""

from monitoring import gangs, jobs, scaling, stages
from monitoring.promql import increase, latest, quantile, rate, ratio, share
from monitoring.rules.rule import Alert, Group, Record

SKEW = "lingbot:rank_step_skew:ratio_rate5m"
STEP_SECONDS = "lingbot:rank_step_seconds:mean_rate5m"
WASTE = "lingbot:gpu_waste:ratio_rate1h"
WAIT = "lingbot:job_wait_seconds:p95_rate5m"
STEP_P95 = "lingbot:denoise_step_seconds:p95_rate5m"


def _records() -> tuple[Record, ...]:
    step = ratio(
        rate(gangs.RANK_STEP_SECONDS, "gang", "rank", window="5m"),
        rate(gangs.RANK_STEPS, "gang", "rank", window="5m"),
    )
    slowest, fastest = (f"{how} by (gang) ({STEP_SECONDS})" for how in ("max", "min"))
    return (
        Record(STEP_SECONDS, step),
        Record(SKEW, f"({slowest} - {fastest}) / {slowest}"),
        Record(WASTE, share(gangs.GPU_SECONDS, window="1h", outcome="failed|cancelled")),
        Record(WAIT, quantile(0.95, jobs.JOB_WAIT_SECONDS, "job_class", window="5m")),
        Record(STEP_P95, quantile(0.95, stages.STEP_SECONDS, "size", window="5m")),
    )


_WAITING = latest(jobs.QUEUE_JOBS)
_RUNNING = latest(jobs.RUNNING_JOBS)
_SERVING = latest(gangs.GANG_STATE, state="idle|running")


def _decisions(direction: str) -> str:
    return increase(scaling.AUTOSCALING_DECISIONS, "stage", window="30m", direction=direction)


_SERVICE = (
    Alert(
        "LingbotGatewayGone",
        "absent({ready})",
        {"ready": latest(jobs.READY, how="max")},
        "5m",
        "page",
        "No gateway answers the scrape of its metrics.",
    ),
    Alert(
        "LingbotNotReady",
        "{ready} == 0",
        {"ready": latest(jobs.READY, how="max")},
        "5m",
        "page",
        "The gateway answers, but no video can be made.",
    ),
    Alert(
        "LingbotStoreDown",
        "{store} == 0",
        {"store": latest(jobs.STORE_UP, how="min")},
        "2m",
        "page",
        "The database of jobs does not answer.",
    ),
    Alert(
        "LingbotCanaryStale",
        "time() - {success} > 1800 or absent({success})",
        {"success": latest(jobs.CANARY_SUCCESS_TIME, how="max")},
        "10m",
        "page",
        "No canary job was completed for half an hour.",
    ),
    Alert(
        "LingbotVersionSkew",
        "count(count by (version) ({versions})) > 1",
        {"versions": latest(stages.BUILD_INFO, "version", how="count")},
        "1h",
        "ticket",
        "Components of different versions run side by side.",
    ),
)

_NO_ROOM = "queue_full|queue_wait_too_long"
_QUEUE = (
    Alert(
        "LingbotQueueOld",
        "{age} > 1800",
        {"age": latest(jobs.QUEUE_OLDEST_SECONDS, "job_class", "priority", how="max")},
        "5m",
        "ticket",
        "A {{ $labels.job_class }} job of priority {{ $labels.priority }} waits for "
        "{{ $value | humanizeDuration }}.",
    ),
    Alert(
        "LingbotQueueFull",
        "{refused} > 0",
        {"refused": increase(jobs.JOBS_REFUSED, window="10m", code=_NO_ROOM)},
        "15m",
        "ticket",
        "Requests are refused because the queue is full, or because they would wait too long.",
    ),
    Alert(
        "LingbotJobsStuck",
        "{running} > 0 and {steps} == 0",
        {"running": _RUNNING, "steps": rate(gangs.RANK_STEPS, window="10m")},
        "10m",
        "page",
        "Jobs are in the pipeline, but no gang takes a step.",
    ),
    Alert(
        "LingbotCancelSlow",
        "{seconds} > 60",
        {"seconds": quantile(0.95, gangs.CANCEL_SECONDS, window="1h")},
        "10m",
        "ticket",
        "A cancelled clip holds its gang for {{ $value | humanizeDuration }} (p95).",
    ),
)

_GANGS = (
    Alert(
        "LingbotNoGang",
        "({serving} or vector(0)) == 0 and {waiting} > 0",
        {"serving": _SERVING, "waiting": _WAITING},
        "15m",
        "page",
        "Jobs wait and no gang serves.",
    ),
    Alert(
        "LingbotGangFlapping",
        "{restarts} > 3",
        {"restarts": increase(gangs.GANG_RESTARTS, "gang", window="1h")},
        "0m",
        "page",
        "Gang {{ $labels.gang }} lost its ranks {{ $value | humanize }} times within an hour.",
    ),
    Alert(
        "LingbotGangHealing",
        "{healing} > 0",
        {"healing": latest(gangs.GANG_STATE, "gang", how="max", state="healing")},
        "15m",
        "page",
        "Gang {{ $labels.gang }} has been restarting its ranks for a quarter of an hour.",
    ),
    Alert(
        "LingbotGangDead",
        "{dead} > 0",
        {"dead": latest(gangs.GANG_STATE, "gang", how="max", state="dead")},
        "5m",
        "page",
        "Gang {{ $labels.gang }} has given up and was not replaced.",
    ),
    Alert(
        "LingbotRankStraggles",
        "{skew} > 0.2",
        {"skew": SKEW},
        "15m",
        "ticket",
        "A rank of gang {{ $labels.gang }} takes {{ $value | humanizePercentage }} longer a step "
        "than the fastest.",
    ),
    Alert(
        "LingbotGpuWaste",
        "{waste} > 0.25",
        {"waste": WASTE},
        "30m",
        "ticket",
        "{{ $value | humanizePercentage }} of the gangs' work went into clips that failed or were "
        "cancelled.",
    ),
)

_SCALING = (
    Alert(
        "LingbotScalingThrash",
        "{up} > 3 and on (stage) {down} > 3",
        {"up": _decisions("up"), "down": _decisions("down")},
        "0m",
        "ticket",
        "{{ $labels.stage }} was scaled up and down again several times within half an hour.",
    ),
    Alert(
        "LingbotScalingShort",
        "{wanted} > on (stage) {current}",
        {
            "wanted": latest(scaling.AUTOSCALING_REPLICAS, "stage", how="max", kind="target"),
            "current": latest(scaling.AUTOSCALING_REPLICAS, "stage", how="max", kind="current"),
        },
        "30m",
        "ticket",
        "{{ $labels.stage }} has had fewer replicas than the policy wants for half an hour.",
    ),
)

GROUPS = (
    Group("lingbot-signals", _records()),
    Group("lingbot-service", _SERVICE),
    Group("lingbot-queue", _QUEUE),
    Group("lingbot-gangs", _GANGS),
    Group("lingbot-scaling", _SCALING),
)
