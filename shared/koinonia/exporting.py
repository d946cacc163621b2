"""Handing traces and metrics to a collector that may be away: that costs a log line, and holds nobody up.

The SDK's own loggers say the same every few seconds for as long as it lasts, so they are silent: here it is said once
that the collector is away, and once that it is back.
"""

import logging
from collections.abc import Sequence
from typing import Any

import structlog
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

log = structlog.get_logger()

TIMEOUT_SECONDS = 2.0


def silence_sdk() -> None:
    """Let the SDK log nothing by itself."""
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)


class SpanExporter(OTLPSpanExporter):
    """Exports spans, to the collector that ``OTEL_EXPORTER_OTLP_…`` names unless ``endpoint`` does."""

    def __init__(self, endpoint: str | None = None) -> None:
        super().__init__(endpoint, timeout=TIMEOUT_SECONDS)
        self._collector = _Collector("traces")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        self._collector.note(there=result is SpanExportResult.SUCCESS)
        return result


class MetricExporter(OTLPMetricExporter):
    """Exports metrics likewise."""

    def __init__(self, endpoint: str | None = None) -> None:
        super().__init__(endpoint, timeout=TIMEOUT_SECONDS)
        self._collector = _Collector("metrics")

    def export(
        self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        result = super().export(metrics_data, timeout_millis, **kwargs)
        self._collector.note(there=result is MetricExportResult.SUCCESS)
        return result


class _Collector:
    """Whether it was there the last time."""

    def __init__(self, signal: str) -> None:
        self._signal = signal
        self._there = True

    def note(self, *, there: bool) -> None:
        if there == self._there:
            return
        self._there = there
        if there:
            log.info("collector_back", signal=self._signal)
        else:
            log.warning("collector_away", signal=self._signal)
