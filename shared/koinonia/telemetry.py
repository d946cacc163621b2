"""Logs, traces and metrics of a process, tied by trace and correlation ids.

Logs are JSON lines on standard error, constant event names with keyword data, redacted. Traces follow W3C Trace Context
through HTTP, outbox, broker and carrier; they are exported over OTLP when ``OTEL_EXPORTER_OTLP_ENDPOINT`` (or
its traces variant) is set, and cost next to nothing when it is not. Metrics are read at ``/metrics``, and exported
likewise.
"""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import msgspec
import prometheus_client
import structlog
from opentelemetry import metrics as otel_metrics
from opentelemetry import propagate, trace
from opentelemetry.context import attach, detach
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from koinonia.exporting import MetricExporter, SpanExporter, silence_sdk
from koinonia.security.redaction import redact_event

tracer = trace.get_tracer("koinonia")

EXIT_SECONDS = 2.0

_correlation_id: ContextVar[str | None] = ContextVar("correlation_id", default=None)
_causation_id: ContextVar[str | None] = ContextVar("causation_id", default=None)
_process: dict[str, str] = {}
_encoder = msgspec.json.Encoder()


def configure(service: str, level: str = "info") -> None:
    """Set up logs, traces and metrics of this process; called once, before anything else."""
    _process["service"] = service
    _configure_logs(level)
    silence_sdk()
    resource = Resource.create({"service.name": service, "service.namespace": "koinonia"})
    readers: list[MetricReader] = [PrometheusMetricReader()]
    if _exports("TRACES"):
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(SpanExporter()))
        trace.set_tracer_provider(provider)
    if _exports("METRICS"):
        readers.append(PeriodicExportingMetricReader(MetricExporter()))
    otel_metrics.set_meter_provider(MeterProvider(metric_readers=readers, resource=resource, shutdown_on_exit=False))


def shut_down() -> None:
    """Hand over what is buffered, within ``EXIT_SECONDS``: an absent collector holds nobody up for longer.

    In threads that do not keep the process: the SDK's own time limits do not end an export that has begun.
    """
    deadline = time.monotonic() + EXIT_SECONDS
    providers = (trace.get_tracer_provider(), otel_metrics.get_meter_provider())
    ends = [each.shutdown for each in providers if isinstance(each, TracerProvider | MeterProvider)]
    threads = [threading.Thread(target=end, daemon=True) for end in ends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))


def prometheus_text() -> bytes:
    """The metrics of this process in the Prometheus text format."""
    return prometheus_client.generate_latest()


def correlation_id() -> str | None:
    """The id of the request that began this work."""
    return _correlation_id.get()


def causation_id() -> str | None:
    """The id of the event that this work answers."""
    return _causation_id.get()


def is_tracing() -> bool:
    """Whether spans of this process go anywhere."""
    return isinstance(trace.get_tracer_provider(), TracerProvider)


@contextmanager
def correlated(correlation: str) -> Iterator[None]:
    """Work that a request began, without a span."""
    token = _correlation_id.set(correlation)
    try:
        yield
    finally:
        _correlation_id.reset(token)


def current_traceparent() -> str | None:
    """The W3C ``traceparent`` of the present span, or None outside of one."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get("traceparent")


def link(traceparents: Iterable[str | None]) -> None:
    """Tie the present span to other traces that it works for, each once."""
    span = trace.get_current_span()
    if span.is_recording():
        for each in _links(traceparents):
            span.add_link(each.context)


@contextmanager
def work(
    name: str,
    *,
    traceparent: str | None = None,
    correlation: str | None = None,
    causation: str | None = None,
    kind: trace.SpanKind = trace.SpanKind.INTERNAL,
    attributes: Mapping[str, str | int] | None = None,
    links: Iterable[str | None] = (),
) -> Iterator[trace.Span]:
    """A span around a piece of work that continues another's trace and carries its correlation and causation ids.

    ``links`` are other traces that it belongs to.
    """
    tokens = (
        _correlation_id.set(correlation or _correlation_id.get()),
        _causation_id.set(causation or _causation_id.get()),
    )
    try:
        if not _records():
            with _passed_on(traceparent) as span:
                yield span
            return
        with tracer.start_as_current_span(
            name,
            context=propagate.extract({"traceparent": traceparent}) if traceparent else None,
            kind=kind,
            attributes=dict(attributes or {}),
            links=_links(links),
            # An exception's message may hold a person's data: the span gets its class alone.
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except Exception as error:
                span.set_status(trace.StatusCode.ERROR, type(error).__name__)
                raise
    finally:
        _correlation_id.reset(tokens[0])
        _causation_id.reset(tokens[1])


def _records() -> bool:
    """Whether anybody is there who keeps spans."""
    has_provider = not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    return has_provider or not isinstance(tracer, trace.ProxyTracer)


@contextmanager
def _passed_on(traceparent: str | None) -> Iterator[trace.Span]:
    """What is left of a span where nobody records it: another's trace goes on, and costs a third of an empty span."""
    if traceparent is None:
        yield trace.get_current_span()
        return
    token = attach(propagate.extract({"traceparent": traceparent}))
    try:
        yield trace.get_current_span()
    finally:
        detach(token)


def _links(traceparents: Iterable[str | None]) -> list[trace.Link]:
    distinct = {each[3:35]: each for each in traceparents if each}  # by trace id
    spans = (trace.get_current_span(propagate.extract({"traceparent": each})) for each in distinct.values())
    return [trace.Link(context) for span in spans if (context := span.get_span_context()).is_valid]


def _exports(signal: str) -> bool:
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if os.environ.get(f"OTEL_{signal}_EXPORTER", "otlp").lower() != "otlp":
        return False
    return bool(
        os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    )


def _configure_logs(level: str) -> None:
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_ids,
        redact_event,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(_to_json)],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        # One write for a line and its end: a process and its successor share a file.
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(_to_json),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    # It tells each failed try, as an error, and whoever tries knows of it: see ``koinonia.bus.link``.
    logging.getLogger("aiormq.connection").setLevel(logging.CRITICAL)


def _to_json(entry: object, **options: Any) -> str:
    """A line of ASCII; what msgspec cannot write, the standard library does, at nine times the cost."""
    try:
        line = _encoder.encode(entry)
    except (TypeError, ValueError):  # half a surrogate pair, a key that is no text
        return json.dumps(entry, **options)
    return line.decode("ascii") if line.isascii() else json.dumps(entry, **options)


def _add_ids(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    entry.setdefault("service", _process.get("service"))
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        entry["trace_id"] = trace.format_trace_id(context.trace_id)
    if correlation := _correlation_id.get():
        entry["correlation_id"] = correlation
    return entry
