"""One job, one trace: the spans of its wait, its stages and its denoise steps.

All spans are made in the gateway, out of the events that the pipeline sends anyway: the stages know
nothing of tracing. Their times are the pipeline's, where things happen, not those of the events'
arrival. A job has at most 8 spans and one for each of its steps, and without a collector none.
"""

import os
from collections.abc import Mapping
from types import TracebackType

from opentelemetry import trace
from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
)
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from deployments.gateway_config import TracingConfig
from deployments.ids import JobIds
from deployments.jobs.failures import job_error
from deployments.messages import Stage, StageEvent, StageState

_PROPAGATOR = TraceContextTextMapPropagator()
_TRACES_PATH = "/v1/traces"
_FLUSH_MS = 5000


class Tracing:
    """Where traces go: to a collector by OTLP over HTTP, or nowhere.

    Args:
        config: The collector.
        exporter: Instead of the collector.
    """

    def __init__(self, config: TracingConfig, exporter: SpanExporter | None = None) -> None:
        exporter = exporter or _exporter(config)
        self._provider: TracerProvider | None = None
        self._tracer: trace.Tracer = trace.NoOpTracer()
        if exporter is not None:
            # The sampler is the SDK's: OTEL_TRACES_SAMPLER, by default the caller's decision.
            resource = Resource.create({SERVICE_NAME: "lingbot-serve"})
            self._provider = TracerProvider(resource=resource)
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
            self._tracer = self._provider.get_tracer("lingbot_serve")

    def job(self, ids: JobIds, created_s: float, size: Mapping[str, int]) -> "JobTrace":
        """Begins the trace of a job that leaves the queue, under the caller's span if it sent one.

        Args:
            ids: The job's names.
            created_s: Unix time of its acceptance.
            size: What it asks for, as attributes.
        """
        return JobTrace(self._tracer, ids, created_s, size)

    def flush(self) -> None:
        """Sends what waits to be sent."""
        if self._provider is not None:
            self._provider.force_flush(_FLUSH_MS)


class JobTrace:
    """The open spans of one job; leaving the context ends them."""

    def __init__(
        self, tracer: trace.Tracer, ids: JobIds, created_s: float, size: Mapping[str, int]
    ) -> None:
        self._tracer = tracer
        self._root = tracer.start_span(
            "video",
            _PROPAGATOR.extract({"traceparent": ids.traceparent}),
            trace.SpanKind.CONSUMER,
            attributes={"job_id": ids.job_id, "request_id": ids.request_id, **size},
            start_time=_ns(created_s),
        )
        self._stages: dict[Stage, trace.Span] = {}
        self._step_s = 0.0
        self._waits = True
        self._start("queue", self._root, created_s).end()

    @property
    def traceparent(self) -> str:
        """The job's span as a W3C header; the caller's where nothing is traced here."""
        header: dict[str, str] = {}
        _PROPAGATOR.inject(header, trace.set_span_in_context(self._root))
        return header.get("traceparent", "")

    def record(self, event: StageEvent) -> None:
        """Takes what the pipeline tells of a stage."""
        at_s = event.started_at + event.seconds
        if event.state is StageState.STARTED:
            self._stages[event.stage] = self._start(event.stage.value, self._root, at_s)
            self._step_s = at_s
            self._waits = True
        elif event.state is StageState.FINISHED:
            self._stages.pop(event.stage).end(_ns(at_s))
        elif event.stage is Stage.DENOISER:
            # The first says that the gang has begun: after no step, or where another one ended.
            name, self._waits = "gang_queue" if self._waits else "step", False
            span = self._start(name, self._stages[event.stage], self._step_s)
            span.set_attribute("index", event.index)
            span.end(_ns(at_s))
            self._step_s = at_s

    def __enter__(self) -> "JobTrace":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        for span in (*self._stages.values(), self._root):
            if error is not None:
                span.set_status(trace.Status(trace.StatusCode.ERROR, job_error(error).code))
            span.end()

    def _start(self, name: str, parent: trace.Span, start_s: float) -> trace.Span:
        context = trace.set_span_in_context(parent)
        return self._tracer.start_span(name, context, start_time=_ns(start_s))


def _exporter(config: TracingConfig) -> SpanExporter | None:
    """To the configured collector, or to the one that OpenTelemetry's own variables name."""
    named = (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT)
    if config.otlp_endpoint is None and not any(map(os.environ.get, named)):
        return None
    # Imported here as a service without a collector has no use for it.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    if config.otlp_endpoint is None:
        return OTLPSpanExporter()
    return OTLPSpanExporter(endpoint=config.otlp_endpoint.rstrip("/") + _TRACES_PATH)


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
