"""A trace collector of the tests' own: it takes OTLP over HTTP, and keeps the spans."""

from dataclasses import dataclass
from typing import Self

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Span:
    """One piece of work in a trace."""

    trace_id: str
    span_id: str
    parent_id: str
    service: str
    name: str
    links: frozenset[str]  # other traces that it worked for


class Collector:
    """Listens on a free port."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._host = host
        self.spans: list[Span] = []
        self.bodies: list[bytes] = []  # everything as it came
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * MEBIBYTE)
        app.router.add_post("/v1/traces", self._receive)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/v1/traces"
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self._runner.cleanup()

    def trace(self, trace_id: str) -> list[Span]:
        """The spans of a trace that have come so far."""
        return [span for span in self.spans if span.trace_id == trace_id]

    def linked(self, trace_id: str) -> list[Span]:
        """The spans of other traces that worked for this one too: batches."""
        return [span for span in self.spans if trace_id in span.links]

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.bodies.append(body)
        exported = ExportTraceServiceRequest.FromString(body)
        for resource in exported.resource_spans:
            attributes = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [_span(attributes["service.name"], span) for span in scope.spans]
        return web.Response(content_type="application/x-protobuf")


def _span(service: str, span: WireSpan) -> Span:
    return Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        service=service,
        name=span.name,
        links=frozenset(link.trace_id.hex() for link in span.links),
    )
