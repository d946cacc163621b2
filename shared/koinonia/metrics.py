"""The instruments of every process: what an operator watches. Made once here, so that each name stands in one place.

Without a configured meter provider they cost next to nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol
from weakref import WeakSet

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

meter = metrics.get_meter("koinonia")

_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]
_LAGS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3600.0, 86_400.0]


class Readings:
    """A figure that somebody reads now and then, by a label; a label that the last reading lacks is gone."""

    def __init__(
        self, name: str, label: str, *, unit: str = "", description: str, meter: metrics.Meter = meter
    ) -> None:
        self._label = label
        self._values: Mapping[str, float] = {}
        meter.create_observable_gauge(name, [self._observe], unit=unit, description=description)

    def show(self, values: Mapping[str, float]) -> None:
        """Let these be the figures from now on."""
        self._values = values

    def _observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(value, {self._label: label}) for label, value in self._values.items()]


request_seconds = meter.create_histogram(
    "koinonia_request_seconds",
    unit="s",
    description="Requests by route and status; streams until they begin",
    explicit_bucket_boundaries_advisory=_SECONDS,
)
shed_total = meter.create_counter(
    "koinonia_requests_shed", description="Requests refused under overload, by service and kind (read, write)"
)
statement_seconds = meter.create_histogram(
    "koinonia_statement_seconds",
    unit="s",
    description="Statements by name",
    explicit_bucket_boundaries_advisory=_SECONDS,
)
pool_wait_seconds = meter.create_histogram(
    "koinonia_pool_wait_seconds",
    unit="s",
    description="Waits for a connection",
    explicit_bucket_boundaries_advisory=_SECONDS,
)
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
handling_seconds = meter.create_histogram(
    "koinonia_event_handling_seconds",
    unit="s",
    description="Batches by queue",
    explicit_bucket_boundaries_advisory=_SECONDS,
)
queue_messages = meter.create_gauge("koinonia_queue_messages", description="Events that wait in a queue")
parked_rows = meter.create_gauge("koinonia_parked_rows", description="Events that wait for a fact, by queue")
dead_letters_total = meter.create_counter(
    "koinonia_dead_letters", description="Events that could not be handled, by queue"
)
partition_days_ahead = meter.create_gauge(
    "koinonia_partition_days_ahead", unit="d", description="How far ahead a partitioned table has partitions"
)
sends_total = meter.create_counter("koinonia_sends", description="Calls to the carrier, by outcome")
send_seconds = meter.create_histogram(
    "koinonia_send_seconds",
    unit="s",
    description="Calls to the carrier",
    explicit_bucket_boundaries_advisory=_SECONDS,
)
claims_total = meter.create_counter("koinonia_claims", description="Claims of delivery workers, by result")
claimed_total = meter.create_counter("koinonia_claimed", description="Recipients that claims took")
claim_seconds = meter.create_histogram(
    "koinonia_claim_seconds",
    unit="s",
    description="Claims, from the first statement to the commit",
    explicit_bucket_boundaries_advisory=_SECONDS,
)
leases_ended_total = meter.create_counter(
    "koinonia_leases_ended", description="Recipients whose worker let its lease end"
)
call_limit = meter.create_gauge(
    "koinonia_call_limit", description="How many calls at once this worker has found the carrier to bear"
)
pauses_total = meter.create_counter(
    "koinonia_pauses", description="Times that sending stopped, by scope (message, number, church, account) and cause"
)
account_paused_until = meter.create_gauge(
    "koinonia_account_paused_until",
    unit="s",
    description="Until when this worker rests, as the carrier takes nothing of the whole platform (Unix time)",
)
emails_total = meter.create_counter("koinonia_emails", description="Attempts to send an e-mail, by outcome")
email_seconds = meter.create_histogram(
    "koinonia_email_seconds",
    unit="s",
    description="Attempts to send an e-mail",
    explicit_bucket_boundaries_advisory=_SECONDS,
)
emails_ended_total = meter.create_counter(
    "koinonia_emails_ended", description="E-mails that were sent, expired or failed, by template and status"
)
emails_kept = Readings("koinonia_emails_kept", "state", description="E-mails that wait, and that failed and are kept")
receipts_total = meter.create_counter("koinonia_receipts", description="Receipts by status and effect")
stripe_events_total = meter.create_counter("koinonia_stripe_events", description="Stripe's events by type and effect")
receipt_lag_seconds = meter.create_histogram(
    "koinonia_receipt_lag_seconds",
    unit="s",
    description="From the carrier's own time to our rows: of each event, the oldest of its receipts",
    explicit_bucket_boundaries_advisory=_LAGS,
)
delivery_depth = Readings(
    "koinonia_delivery_depth", "class", description="Recipients that wait, by class, counted up to 50,000"
)
delivery_oldest_seconds = Readings(
    "koinonia_delivery_oldest_seconds", "class", unit="s", description="How long the oldest of them has been due"
)
number_rate_use = Readings(
    "koinonia_number_rate_use", "number", description="Share of its segments per second that a number used; the busiest"
)
loop_lag_seconds = meter.create_histogram(
    "koinonia_loop_lag_seconds",
    unit="s",
    description="How late the event loop runs",
    explicit_bucket_boundaries_advisory=_SECONDS,
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
