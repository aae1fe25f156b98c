"""The log's lines: one event each, with ids, without what people sent."""

import json
import logging
import re
import sys
from collections.abc import Callable

import numpy as np
import pytest
from structlog.contextvars import bound_contextvars

from cluster.logs import LogConfig, get_logger, log_formatter
from deployments.config import ServeConfig
from deployments.ids import JobIds, new_job_ids

JSON = LogConfig(format="json")
PROMPT = "a very private lighthouse"
Emit = Callable[[logging.Logger], None]


def line_of(emit: Emit, *, config: LogConfig = JSON, terminal: bool = False) -> str:
    """What a process with some fields writes for one call."""
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Lines()
    handler.setFormatter(log_formatter(config, {"stage": "denoiser"}, terminal=terminal))
    name = "deployments.test"
    logger = logging.getLogger(name)
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        emit(logger)
    finally:
        logger.removeHandler(handler)
    [line] = lines
    return line


def event_of(emit: Emit) -> dict:
    line = line_of(emit)
    assert "\n" not in line
    return json.loads(line)


def test_a_line_carries_event_fields_and_ids() -> None:
    with bound_contextvars(job_id="video_1", request_id="req"):
        event = event_of(lambda log: get_logger(log.name).info("gang_ready", seconds=1.5))
    assert list(event)[:4] == ["timestamp", "level", "event", "logger"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", event.pop("timestamp"))
    assert event == {
        "level": "info",
        "event": "gang_ready",
        "logger": "deployments.test",
        "stage": "denoiser",
        "job_id": "video_1",
        "request_id": "req",
        "seconds": 1.5,
    }


def test_the_standard_librarys_calls_come_out_alike() -> None:
    with bound_contextvars(job_id="video_1"):
        event = event_of(lambda log: log.warning("read %d of %d", 1, 2, extra={"bytes": 3}))
    assert (event["event"], event["bytes"]) == ("read 1 of 2", 3)
    assert (event["job_id"], event["stage"]) == ("video_1", "denoiser")


@pytest.mark.parametrize("config", [JSON, LogConfig(format="console")])
def test_a_traceback_shows_no_values(config: LogConfig) -> None:
    def fail(log: logging.Logger) -> None:
        prompt = PROMPT  # a local variable, as a stage has it
        try:
            raise ZeroDivisionError(len(prompt))
        except ZeroDivisionError:
            get_logger(log.name).exception("job_failed", code="internal_error")

    line = line_of(fail, config=config)
    assert "ZeroDivisionError" in line and "in fail" in line
    assert PROMPT not in line


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": PROMPT},
        {"request": {"negative_prompt": PROMPT}},
        {"value": [{"prompt": PROMPT}]},
        {"array": np.frombuffer(PROMPT.encode(), np.uint8)},
        {"data": PROMPT.encode()},
    ],
)
def test_what_people_sent_stays_out(fields: dict) -> None:
    line = line_of(lambda log: get_logger(log.name).info("event", **fields))
    assert "lighthouse" not in line and "97, 32" not in line
    assert json.loads(line)["event"] == "event"


def test_a_long_text_is_cut() -> None:
    event = event_of(lambda log: log.info("x" * 20_000))
    assert len(event["event"]) < 8_300


def test_people_on_a_terminal_read_no_json() -> None:
    auto = LogConfig()
    assert line_of(lambda log: log.info("hello"), config=auto, terminal=False).startswith("{")
    assert "hello" in line_of(lambda log: log.info("hello"), config=auto, terminal=True)
    assert "{" not in line_of(lambda log: log.info("hello"), config=auto, terminal=True)


def test_a_process_that_configures_nothing_stays_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    get_logger("deployments.unconfigured").info("event", field=1)
    assert capfd.readouterr() == ("", "")
    assert sys.stderr is not None


def test_a_request_id_is_bounded() -> None:
    ids = new_job_ids({"x-request-id": "r" * 1000})
    assert ids.log_fields() == {"job_id": ids.job_id, "request_id": "r" * 128}
    assert new_job_ids({}).log_fields().keys() == {"job_id"}


def test_a_second_attempt_has_a_name_of_its_own_in_the_gang_only() -> None:
    again = JobIds("video_1", "req", attempt=2)
    assert (again.work_id, again.log_fields()["job_id"]) == ("video_1-2", "video_1")


def test_one_section_speaks_for_both_applications() -> None:
    raw = {
        "pipeline": {"checkpoint": "/a", "logging": {"level": "debug"}},
        "logging": {"format": "json", "level": "warning"},
    }
    config = ServeConfig.model_validate(raw)
    assert config.pipeline.logging == LogConfig(format="json", level="debug")
    assert config.gateway.logging == LogConfig(format="json", level="warning")


def test_auto_is_decided_where_the_service_is_started() -> None:
    config = ServeConfig.model_validate({"pipeline": {"checkpoint": "/a"}})
    assert config.read_by(terminal=True).pipeline.logging.format == "console"
    assert config.read_by(terminal=False).gateway.logging.format == "json"
    given = ServeConfig.model_validate(
        {"pipeline": {"checkpoint": "/a"}, "logging": {"format": "json"}}
    )
    assert given.read_by(terminal=True).pipeline.logging.format == "json"
    assert given.read_by(terminal=True).pipeline.checkpoint == config.pipeline.checkpoint
