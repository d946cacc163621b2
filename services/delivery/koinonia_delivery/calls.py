"""One call to the carrier for one claimed recipient: when it may begin, what it sends, how it ended."""

import time
from uuid import UUID

import structlog
from opentelemetry.trace import SpanKind

from koinonia import metrics, telemetry
from koinonia.carrier.contract import (
    Accepted,
    Carrier,
    CarrierError,
    OutboundText,
    OutcomeUnknown,
    Refused,
    with_token,
)
from koinonia.resilience.breaker import Breaker, BreakerOpen
from koinonia.resilience.limit import Limit
from koinonia.security.encryption import CiphertextInvalid
from koinonia.security.keys import Keys
from koinonia.security.receipts import receipt_token
from koinonia_delivery.claims import Call
from koinonia_delivery.domain import outcomes
from koinonia_delivery.domain.outcomes import Attempt, Outcome
from koinonia_delivery.settings import DeliverySettings
from koinonia_delivery.store.claims import Claimed

log = structlog.get_logger()

TROUBLE_CODES = frozenset({"10007", "10037"})
"""What Telnyx says of its own failures. A key that is still in use, for one, is none."""


def carrier_breaker() -> Breaker:
    """The switch in front of the carrier: it opens when the carrier cannot be reached or does not answer sensibly."""
    return Breaker("carrier", is_failure=_is_away)


class Caller:
    """Makes calls; holds no connection to the database."""

    def __init__(self, carrier: Carrier, keys: Keys, settings: DeliverySettings, breaker: Breaker) -> None:
        self._carrier = carrier
        self._keys = keys
        self._settings = settings
        self.breaker = breaker
        self.limit = Limit(settings.delivery_concurrency)
        self._under_way = 0

    def webhook_url(self, recipient_id: UUID, traceparent: str | None) -> str:
        """Where the receipts of a recipient go: its token and its trace come back in the signed body."""
        return with_token(self._settings.status_webhook_url, receipt_token(self._keys, recipient_id), traceparent)

    async def call(self, call: Call) -> Outcome:
        """Call the carrier once, if it is not too late for that."""
        attempt = attempt_of(call.claimed)
        if time.monotonic() > call.latest_at:
            return _counted(outcomes.returned(attempt))
        try:
            with self.breaker.guard():
                return _counted(await self._send(call.claimed, attempt))
        except BreakerOpen:
            return _counted(outcomes.returned(attempt))
        except CarrierError as error:
            return _counted(outcomes.failed(attempt, error, self._settings.unknown_outcome_wait))
        except CiphertextInvalid:
            # A key is missing here: another process, or this one with the right settings, can send it.
            log.error("recipient_unreadable", recipient_id=str(attempt.recipient_id))
            return _counted(outcomes.failed(attempt, Refused("It cannot be read; support has been told."), 0.0))

    async def _send(self, claimed: Claimed, attempt: Attempt) -> Outcome:
        self._under_way += 1
        under_way, started = self._under_way, time.perf_counter()
        try:
            answer = await self._ask(claimed)
        finally:
            self._under_way -= 1
        seconds = time.perf_counter() - started
        self.limit.note(seconds, under_way)
        metrics.send_seconds.record(seconds)
        return outcomes.accepted(attempt, answer)

    async def _ask(self, claimed: Claimed) -> Accepted:
        with telemetry.work(
            "send text",
            traceparent=claimed.traceparent,
            correlation=claimed.correlation_id,
            kind=SpanKind.CLIENT,
            attributes={"recipient_id": str(claimed.recipient_id), "attempt": claimed.attempt},
        ):
            return await self._carrier.send(self._text(claimed))

    def _text(self, claimed: Claimed) -> OutboundText:
        return OutboundText(
            recipient=self._keys.decrypt(claimed.phone_ciphertext, claimed.church_id, "phone"),
            sender=claimed.sender,
            text=claimed.text,
            media_urls=claimed.media_urls,
            messaging_profile_id=claimed.messaging_profile_id,
            webhook_url=claimed.webhook_url,
            idempotency_key=idempotency_key(claimed) if self._settings.telnyx_idempotency else None,
            traceparent=telemetry.current_traceparent(),
        )


def idempotency_key(claimed: Claimed) -> str:
    """The key of a recipient's attempts until a person asks for another text: the carrier sends one for all of them."""
    return f"{claimed.recipient_id}:{int(claimed.group_started_at.timestamp() * 1_000_000)}"


def attempt_of(claimed: Claimed) -> Attempt:
    """Which attempt a claim stands for."""
    return Attempt(
        recipient_id=claimed.recipient_id,
        church_id=claimed.church_id,
        source_id=claimed.source_id,
        number_id=claimed.number_id,
        attempt=claimed.attempt,
        traceparent=claimed.traceparent,
        correlation_id=claimed.correlation_id,
    )


def _counted(outcome: Outcome) -> Outcome:
    metrics.sends_total.add(1, {"outcome": outcome.result, "code": outcome.error_code or ""})
    return outcome


def _is_away(error: BaseException) -> bool:
    """The carrier did not answer, or said that it has trouble. One that refuses with a code of its own is there."""
    if not isinstance(error, OutcomeUnknown | Refused):
        return False
    return error.carrier_code is None or error.carrier_code in TROUBLE_CODES
