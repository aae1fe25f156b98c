"""The spans of a job, in the SDK's own exporter."""

import asyncio

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from deployments.config import ServeConfig
from deployments.gateway_config import TracingConfig
from deployments.ids import JobIds, new_job_ids
from deployments.messages import Stage, StageEvent, StageState
from deployments.tracing import JobTrace, Tracing

TRACE_ID, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADER = f"00-{TRACE_ID}-{CALLER}-01"
SIZE = {"num_frames": 9, "num_inference_steps": 2}


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(exporter: InMemorySpanExporter) -> Tracing:
    return Tracing(TracingConfig(), exporter)


def denoise(trace: JobTrace, *, until: int = 4) -> None:
    """A wait of 2 s beside the gang and two steps of 1 s, from the moment 10."""
    events = [
        (StageState.STARTED, 0, 0.0),
        (StageState.STEP, 0, 2.0),
        (StageState.STEP, 1, 3.0),
        (StageState.STEP, 2, 4.0),
        (StageState.FINISHED, 2, 4.5),
    ]
    for state, index, seconds in events[: until + 1]:
        trace.record(StageEvent(Stage.DENOISER, state, index, 2, seconds, started_at=10.0))


def times(span: ReadableSpan) -> tuple[float, float]:
    assert span.start_time is not None and span.end_time is not None
    return span.start_time / 1e9, span.end_time / 1e9


def test_steps_lie_in_their_stage_and_stages_in_the_callers_trace(
    tracing: Tracing, exporter: InMemorySpanExporter
) -> None:
    with tracing.job(JobIds("video_1", "req", HEADER), 5.0, SIZE) as trace:
        assert trace.traceparent.split("-")[1] == TRACE_ID
        assert trace.traceparent != HEADER
        denoise(trace)
    tracing.flush()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    root, stage = spans["video"], spans["denoiser"]
    assert {format(s.context.trace_id, "032x") for s in spans.values()} == {TRACE_ID}
    assert format(root.parent.span_id, "016x") == CALLER
    assert spans["queue"].parent.span_id == stage.parent.span_id == root.context.span_id
    assert spans["step"].parent.span_id == stage.context.span_id
    assert root.attributes == {"job_id": "video_1", "request_id": "req", **SIZE}
    assert root.start_time == 5_000_000_000
    assert times(stage) == (10.0, 14.5)
    steps = [times(s) for s in exporter.get_finished_spans() if s.name == "step"]
    assert (times(spans["gang_queue"]), steps) == ((10.0, 12.0), [(12.0, 13.0), (13.0, 14.0)])
    assert root.resource.attributes["service.name"] == "lingbot-serve"


@pytest.mark.parametrize(
    ("error", "code"),
    [(asyncio.CancelledError(), "cancelled"), (ZeroDivisionError(), "internal_error")],
)
def test_a_job_that_breaks_off_closes_its_spans(
    tracing: Tracing, exporter: InMemorySpanExporter, error: BaseException, code: str
) -> None:
    with pytest.raises(type(error)), tracing.job(JobIds("video_1"), 5.0, SIZE) as trace:
        denoise(trace, until=2)
        raise error
    tracing.flush()
    broken = {s.name: s.status for s in exporter.get_finished_spans() if not s.status.is_unset}
    assert set(broken) == {"denoiser", "video"}
    assert {(s.status_code, s.description) for s in broken.values()} == {(StatusCode.ERROR, code)}


def test_the_caller_decides_whether_it_is_traced(
    tracing: Tracing, exporter: InMemorySpanExporter
) -> None:
    with tracing.job(JobIds("video_1", "", f"00-{TRACE_ID}-{CALLER}-00"), 5.0, SIZE) as trace:
        denoise(trace)
    tracing.flush()
    assert not exporter.get_finished_spans()


def test_without_a_collector_the_callers_trace_is_handed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    tracing = Tracing(TracingConfig())
    with tracing.job(JobIds("video_1", "", HEADER), 5.0, SIZE) as trace:
        denoise(trace)
        assert trace.traceparent == HEADER
    with tracing.job(JobIds("video_2"), 5.0, SIZE) as trace:
        assert trace.traceparent == ""


@pytest.mark.parametrize("header", ["", "00-short-01", HEADER + "\n", HEADER.upper()])
def test_a_malformed_header_is_no_trace(header: str) -> None:
    assert new_job_ids({"traceparent": header}).traceparent == ""
    assert new_job_ids({"traceparent": HEADER}).log_fields()["trace_id"] == TRACE_ID


def test_the_collector_is_the_gateways_alone() -> None:
    raw = {"pipeline": {"checkpoint": "/a"}, "tracing": {"otlp_endpoint": "http://c:4318"}}
    assert ServeConfig.model_validate(raw).gateway.tracing.otlp_endpoint == "http://c:4318"
    with pytest.raises(ValueError, match=r"tracing\.otlp_endpoint"):
        ServeConfig.model_validate({**raw, "tracing": {"otlp_endpoint": "c:4318"}})
