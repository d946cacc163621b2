"""The instruments of every process: what an operator watches. Made once here, so that each name stands in one place.

Without a configured meter provider they cost next to nothing.
"""

from collections.abc import Callable, Iterable
from typing import Protocol
from weakref import WeakSet

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

meter = metrics.get_meter("koinonia")

request_seconds = meter.create_histogram(
    "koinonia_request_seconds", unit="s", description="Requests by route and status; streams until they begin"
)
statement_seconds = meter.create_histogram("koinonia_statement_seconds", unit="s", description="Statements by name")
pool_wait_seconds = meter.create_histogram("koinonia_pool_wait_seconds", unit="s", description="Waits for a connection")
pool_failures_total = meter.create_counter(
    "koinonia_pool_failures", description="Times that no connection could be had, by reason"
)
outbox_rows = meter.create_gauge("koinonia_outbox_rows", description="Events that the broker has not confirmed")
outbox_oldest_seconds = meter.create_gauge(
    "koinonia_outbox_oldest_seconds", unit="s", description="Age of the oldest of them"
)
published_total = meter.create_counter(
    "koinonia_events_published", description="Events that the broker confirmed, by type"
)
last_confirm_age_seconds = meter.create_gauge(
    "koinonia_last_confirm_age_seconds", unit="s", description="Since the broker last confirmed a message"
)
consumed_total = meter.create_counter("koinonia_events_consumed", description="Events by queue and outcome")
handling_seconds = meter.create_histogram("koinonia_event_handling_seconds", unit="s", description="Batches by queue")
queue_messages = meter.create_gauge("koinonia_queue_messages", description="Events that wait in a queue")
parked_rows = meter.create_gauge("koinonia_parked_rows", description="Events that wait for a fact, by queue")
dead_letters_total = meter.create_counter(
    "koinonia_dead_letters", description="Events that could not be handled, by queue"
)
sends_total = meter.create_counter("koinonia_sends", description="Calls to the carrier, by outcome")
send_seconds = meter.create_histogram("koinonia_send_seconds", unit="s", description="Calls to the carrier")
receipts_total = meter.create_counter("koinonia_receipts", description="Receipts by status and effect")
loop_lag_seconds = meter.create_histogram(
    "koinonia_loop_lag_seconds", unit="s", description="How late the event loop runs"
)


class Pool(Protocol):
    """A pool of connections to the database."""

    service: str

    def pool_figures(self) -> dict[str, int]: ...


class Switch(Protocol):
    """A circuit breaker."""

    name: str
    openings: int

    @property
    def state(self) -> str: ...


pools: WeakSet[Pool] = WeakSet()
"""Those of this process; each puts itself in."""
switches: WeakSet[Switch] = WeakSet()
STATES = {"closed": 0, "half_open": 1, "open": 2}


def _pool(figure: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _options: [Observation(each.pool_figures()[figure], {"service": each.service}) for each in [*pools]]


def _states(_options: CallbackOptions) -> Iterable[Observation]:
    return [Observation(STATES[each.state], {"breaker": each.name}) for each in [*switches]]


def _openings(_options: CallbackOptions) -> Iterable[Observation]:
    return [Observation(each.openings, {"breaker": each.name}) for each in [*switches]]


meter.create_observable_gauge("koinonia_pool_size", [_pool("size")], description="Connections to the database")
meter.create_observable_gauge("koinonia_pool_idle", [_pool("idle")], description="Those that nobody uses")
meter.create_observable_gauge("koinonia_pool_limit", [_pool("limit")], description="How many there may be")
meter.create_observable_gauge(
    "koinonia_breaker_state", [_states], description="Circuit breakers: 0 closed, 1 half open, 2 open"
)
meter.create_observable_counter("koinonia_breaker_openings", [_openings], description="Times that a breaker opened")
