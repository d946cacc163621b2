"""A collector that is away costs a log line; and what a process shows at ``/metrics`` of its pool and breakers."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from structlog.testing import capture_logs

from koinonia import metrics, telemetry
from koinonia.db import Database
from koinonia.exporting import SpanExporter, silence_sdk
from koinonia.servers.ports import free_ports

ABSENT = """
import time
from koinonia import metrics, telemetry
from koinonia.exporting import MetricExporter, SpanExporter

tries = {"traces": 0, "metrics": 0}

def counted(kind, signal):
    export = kind.export
    def count(*given, **named):
        result = export(*given, **named)
        tries[signal] += 1
        return result
    kind.export = count

counted(SpanExporter, "traces")
counted(MetricExporter, "metrics")
telemetry.configure("test")
ends = time.monotonic() + 30
while min(tries.values()) < 3 and time.monotonic() < ends:
    metrics.loop_lag_seconds.record(0.0)
    with telemetry.work("something"):
        time.sleep(0.01)
with telemetry.work("the last"):
    pass
started = time.monotonic()
telemetry.shut_down()
print(tries["traces"], tries["metrics"], started)
"""


BROKERS_LIBRARY = """
import logging
from koinonia import telemetry

telemetry.configure("test")
for part in ("connection", "channel"):
    logging.getLogger(f"aiormq.{part}").error(f"of the {part}")
"""


def test_what_the_brokers_library_says_of_each_failed_try_is_left_out() -> None:
    command = [sys.executable, "-c", BROKERS_LIBRARY]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert ("of the channel" in told, "of the connection" in told) == (True, False)


def test_an_absent_collector_costs_a_log_line_for_each_signal_and_two_seconds_at_the_end() -> None:
    (port,) = free_ports(1)
    environ = {
        **os.environ,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_BSP_SCHEDULE_DELAY": "20",
        "OTEL_METRIC_EXPORT_INTERVAL": "20",
    }
    ended = subprocess.run([sys.executable, "-c", ABSENT], env=environ, capture_output=True, timeout=60, check=True)
    traces, metrics, exit_began_at = ended.stdout.split()
    assert time.monotonic() - float(exit_began_at) < 3.0
    assert min(int(traces), int(metrics)) >= 3
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert sorted((line["event"], line["level"], line["signal"]) for line in lines) == [
        ("collector_away", "warning", "metrics"),
        ("collector_away", "warning", "traces"),
    ]


class _Collector(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def span() -> ReadableSpan:
    provider = TracerProvider(shutdown_on_exit=False)
    made = provider.get_tracer("test").start_span("x")
    made.end()
    assert isinstance(made, ReadableSpan)
    return made


def test_a_collector_that_comes_back_is_told_once(span: ReadableSpan) -> None:
    silence_sdk()
    (port,) = free_ports(1)
    exporter = SpanExporter(f"http://127.0.0.1:{port}/v1/traces")
    with capture_logs() as logs:
        exporter.export([span])
        exporter.export([span])
        with HTTPServer(("127.0.0.1", port), _Collector) as server:
            thread = Thread(target=server.serve_forever)
            thread.start()
            exporter.export([span])
            exporter.export([span])
            exporter.shutdown()  # type: ignore[no-untyped-call]
            server.shutdown()
            thread.join()
    assert [entry["event"] for entry in logs] == ["collector_away", "collector_back"]


def test_a_label_that_is_not_read_any_more_is_gone_from_the_metrics() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    figures = metrics.Readings("test_figure", "class", description="A test", meter=provider.get_meter("test"))

    def shown() -> dict[Any, Any]:
        data = reader.get_metrics_data()
        points = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points if data else []
        return {
            (point.attributes or {}).get("class"): point.value for point in points if isinstance(point, NumberDataPoint)
        }

    assert shown() == {}
    figures.show({"a": 1.0, "b": 2.0})
    assert shown() == {"a": 1.0, "b": 2.0}
    figures.show({"b": 3.0})
    assert shown() == {"b": 3.0}


METRICS = """
import asyncio, sys
from koinonia import telemetry
from koinonia.db import Database
from koinonia.errors import DependencyUnavailable
from koinonia.resilience.breaker import Breaker

async def main():
    telemetry.configure("test")
    database = await Database.open(sys.argv[1], "delivery", pool_size=1, acquire_timeout_seconds=0.5)
    breaker = Breaker("carrier", failures=1)
    try:
        with breaker.guard():
            raise OSError
    except OSError:
        pass
    async with database.across_churches():
        try:
            async with database.across_churches():
                pass
        except DependencyUnavailable:
            pass
        print(telemetry.prometheus_text().decode())
    await database.close()

asyncio.run(main())
"""


async def test_the_pool_and_the_breakers_are_seen_in_the_metrics(
    databases: Callable[[str], Awaitable[Database]],
) -> None:
    url = (await databases("delivery")).url
    ended = subprocess.run([sys.executable, "-c", METRICS, url], capture_output=True, timeout=60, check=True)
    shown = dict(re.findall(r"^(koinonia_\w+)\{.*\} (\S+)$", ended.stdout.decode(), re.MULTILINE))
    wanted = {
        "koinonia_pool_size": 1,
        "koinonia_pool_idle": 0,
        "koinonia_pool_limit": 1,
        "koinonia_pool_failures_total": 1,
        "koinonia_breaker_state": 2,
        "koinonia_breaker_openings_total": 1,
    }
    assert {name: float(shown.get(name, "nan")) for name in wanted} == wanted


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def _passed_on() -> list[str | None]:
    """The trace before, in, and after work that continues one, work in it, and work that continues none."""
    seen: list[str | None] = [telemetry.current_traceparent()]
    with telemetry.work("outer", traceparent=TRACE, correlation="request"):
        seen.append(telemetry.current_traceparent())
        with suppress(LookupError), telemetry.work("inner", attributes={"number": 1}):
            seen += [telemetry.current_traceparent(), telemetry.correlation_id()]
            raise LookupError
        seen.append(telemetry.current_traceparent())
    with telemetry.work("alone"):
        seen.append(telemetry.current_traceparent())
    return [*seen, telemetry.current_traceparent(), telemetry.correlation_id()]


def test_a_trace_goes_on_also_where_nobody_records_it(monkeypatch: pytest.MonkeyPatch) -> None:
    unrecorded = _passed_on()
    assert unrecorded == [None, TRACE, TRACE, "request", TRACE, None, None, None]
    # An empty tracer does the same at several times the cost.
    monkeypatch.setattr(telemetry, "tracer", trace.NoOpTracer())
    assert _passed_on() == unrecorded
