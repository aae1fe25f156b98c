"""Log lines as events with fields: the same shape from every process, with the ids of its work.

Loggers are the standard library's, so that `model/`, which knows no structlog, and other people's
libraries come out in the same shape; a process that configures nothing is as quiet as any.
structlog does the formatting. Fields that hold for a while are bound to the context
(`structlog.contextvars`), those that hold for a process are given once to `configure_logging`.
"""

import logging
import sys
from collections.abc import Mapping
from typing import Any, Literal

import structlog
from pydantic import BaseModel, ConfigDict, Field
from structlog.contextvars import merge_contextvars
from structlog.stdlib import BoundLogger, ExtraAdder, ProcessorFormatter, render_to_log_kwargs
from structlog.typing import EventDict, Processor

OWN_LOGGERS = ("model", "cluster", "deployments", "autoscaling", "lingbot_serve")
_FIRST = ("timestamp", "level", "event", "logger")
# What people send us stays out of the log, whoever might write it there.
_PRIVATE = frozenset(
    {"prompt", "negative_prompt", "image", "input_reference", "camera", "poses", "intrinsics"}
)
_MAX_TEXT = 8192
# How Ray Serve steers its own handlers.
_FOREIGN = frozenset({"log_to_stderr", "serve_access_log", "skip_context_filter"})
_PLAIN = (str, int, float, bool, type(None))


class LogConfig(BaseModel):
    """How the service's processes write their log."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["auto", "json", "console"] = Field(
        default="auto", description="auto: for people on a terminal, JSON everywhere else."
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Of this project's own events; other libraries' from warning."
    )


def get_logger(name: str) -> BoundLogger:
    """A logger whose calls take an event and its fields: `logger.info("gang_ready", seconds=3.1)`.

    Args:
        name: The module's `__name__`.
    """
    logger: BoundLogger = structlog.wrap_logger(
        logging.getLogger(name), processors=[render_to_log_kwargs], wrapper_class=BoundLogger
    )
    return logger


def configure_logging(config: LogConfig, **fields: object) -> logging.Formatter:
    """Makes this process write its log to stderr, one event a line; the last call counts.

    Args:
        config: Format and level.
        fields: What every line of this process carries.

    Returns:
        The formatter, for handlers of loggers that do not pass their records on.
    """
    # The stream of the process: Serve may put a logger of its own in the place of sys.stderr.
    handler = logging.StreamHandler(sys.__stderr__)
    formatter = log_formatter(config, fields, terminal=handler.stream.isatty())
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for name in OWN_LOGGERS:
        logging.getLogger(name).setLevel(config.level.upper())
    logging.captureWarnings(True)
    return formatter


def log_formatter(
    config: LogConfig, fields: Mapping[str, object], *, terminal: bool
) -> logging.Formatter:
    """Turns a record into one line.

    Args:
        config: Format and level.
        fields: What every line carries.
        terminal: Whether people read it.
    """
    for_people = config.format == "console" or (config.format == "auto" and terminal)
    renderer: tuple[Processor, ...] = (
        # Tracebacks without the values of variables: those hold prompts.
        structlog.processors.format_exc_info,
        _order,
        structlog.processors.JSONRenderer(),
    )
    if for_people:
        plain = structlog.dev.plain_traceback
        renderer = (structlog.dev.ConsoleRenderer(colors=terminal, exception_formatter=plain),)

    def add_process_fields(_logger: Any, _method: str, event: EventDict) -> EventDict:
        return {**fields, **event}

    chain: tuple[Processor, ...] = (
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _add_bound_fields,
        ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_process_fields,
        _redact,
    )
    return ProcessorFormatter(
        foreign_pre_chain=chain, processors=(ProcessorFormatter.remove_processors_meta, *renderer)
    )


def _add_bound_fields(logger: Any, method: str, event: EventDict) -> EventDict:
    # Serve starts lasting tasks inside a request, whose names they would carry for ever; its own
    # lines get the request's id from Serve.
    return event if event["logger"].startswith("ray.") else merge_contextvars(logger, method, event)


def _redact(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Keeps what people sent, and what is no plain value, out of a line; bounds its texts."""
    return {
        key: value if key in ("_record", "_from_structlog", "exc_info") else _clean(key, value)
        for key, value in event.items()
        if key not in _FOREIGN and key != "_ray_timestamp_ns"
    }


def _clean(key: str, value: object) -> object:
    if key in _PRIVATE:
        return "<redacted>"
    if isinstance(value, Mapping):
        return {str(name): _clean(str(name), item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean("", item) for item in value]
    if isinstance(value, str) and len(value) > _MAX_TEXT:
        return f"{value[:_MAX_TEXT]}… ({len(value)} characters)"
    return value if isinstance(value, _PLAIN) else f"<{type(value).__name__}>"


def _order(_logger: Any, _method: str, event: EventDict) -> EventDict:
    return {**{name: event[name] for name in _FIRST if name in event}, **event}
