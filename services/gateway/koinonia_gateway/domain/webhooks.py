"""What the carrier's events become on our bus."""

from datetime import UTC, datetime, timedelta
from typing import Literal, get_args
from uuid import UUID

from koinonia.carrier.webhooks import WebhookEvent
from koinonia.carrier.wire import WireMessage
from koinonia.events.carrier import Receipt
from koinonia.ids import derived_id

RECEIPT_EVENTS = frozenset({"message.sent", "message.finalized"})
INBOUND_EVENT = "message.received"
KNOWN_BY_ATTEMPT = 3

AutoResponse = Literal["STOP", "START", "HELP"]

_UNDATED = datetime(2020, 1, 1, tzinfo=UTC)
_OLDEST = timedelta(days=20)


def receipt_of(
    event: WebhookEvent, message: WireMessage, recipient_id: UUID, now: datetime, traceparent: str | None = None
) -> Receipt:
    """The carrier's word on a text of ours."""
    return Receipt(
        recipient_id=recipient_id,
        status=str(event.status),
        occurred_at=event.occurred_at or now,
        carrier_id=message.id,
        error_code=event.error.code if event.error else None,
        parts=message.parts,
        traceparent=traceparent,
    )


def inbound_id(event: WebhookEvent) -> UUID:
    """The id of the event of an inbound text: the same for each repeat of the carrier's event."""
    at = max(event.occurred_at or _UNDATED, _UNDATED)
    return derived_id(at, INBOUND_EVENT.encode(), event.id.encode())


def dated(event: WebhookEvent, message: WireMessage, now: datetime) -> datetime:
    """When a text was sent, by the carrier's clock, which is not believed beyond what can be.

    A START from the future would outrank every STOP until then, and a text from long ago has no partition any more.
    """
    return min(max(event.occurred_at or message.received_at or now, now - _OLDEST), now)


def media_of(message: WireMessage) -> tuple[str, ...]:
    """Where its pictures lie."""
    return tuple(media.url for media in message.media or () if media.url)


def text_of(message: WireMessage) -> str:
    """The text; a picture may have none. NUL, which no table takes, is left out."""
    return (message.text or "").replace("\x00", "")


def auto_response_of(message: WireMessage) -> AutoResponse | None:
    """What the carrier has answered by itself."""
    return next((each for each in get_args(AutoResponse) if each == message.autoresponse_type), None)


def may_come_to_be_known(attempt: int) -> bool:
    """Whether to let the carrier repeat a text to a number that we do not know.

    A number that was ordered a moment ago is known once its event has come, within a second as a rule: the carrier
    tries three times, so the first two are refused and the last one is answered.
    """
    return attempt < KNOWN_BY_ATTEMPT
