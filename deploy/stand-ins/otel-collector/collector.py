"""What stands in for the OpenTelemetry collector: it takes OTLP over HTTP, tells how much came, and keeps nothing.

It reads no configuration: the ports are those of deploy/telemetry/otel-collector.yaml.
"""

import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

received: Counter[str] = Counter()
"""Requests by path."""


class Receiver(BaseHTTPRequestHandler):
    """``POST /v1/traces`` and ``/v1/metrics``."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        received[self.path] += 1
        sys.stdout.write(f"{self.path} {len(body)} bytes\n")
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing more."""


class Metrics(Receiver):
    """``GET /metrics``."""

    def do_GET(self) -> None:
        text = "".join(
            f'stand_in_requests_total{{path="{path}"}} {count}\n' for path, count in received.items()
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


if __name__ == "__main__":
    threading.Thread(target=ThreadingHTTPServer(("", 8888), Metrics).serve_forever, daemon=True).start()
    ThreadingHTTPServer(("", 4318), Receiver).serve_forever()
