"""The figures of a stop: what was sent, what will not go, what is in flight, what is credited."""

from collections.abc import Iterable, Mapping

import msgspec

from koinonia.api.messages import StopFigures
from koinonia_messaging.domain.messages import shown_counts

SENT = ("sent", "delivered", "undelivered", "unconfirmed")
NOT_SENT = ("failed", "suppressed", "cancelled", "expired")


class Confirmed(msgspec.Struct, frozen=True, kw_only=True):
    """What delivery (``sent``, ``in_flight``) and billing (``segments``, ``cents``) have said; None: not yet."""

    sent: int | None = None
    in_flight: int | None = None
    segments: int | None = None
    cents: int | None = None


def figures(total: int, streamed: int, counters: Mapping[str, int], confirmed: Confirmed) -> StopFigures:
    """The figures of one message whose audience was ``total``.

    Of an audience of which delivery has told so many sent and in flight, nobody else gets the text: rows that come
    later meet the tombstone. Until it has told, what the counters know of the ``streamed`` ones is shown.
    """
    if confirmed.sent is None or confirmed.in_flight is None:
        shown = msgspec.structs.asdict(shown_counts(counters, streamed))
        sent = sum(shown[status] for status in SENT)
        in_flight = streamed - sent - sum(shown[status] for status in NOT_SENT)
    else:
        sent, in_flight = confirmed.sent, confirmed.in_flight
    return StopFigures(
        sent=sent,
        will_not_go=total - sent - in_flight,
        in_flight=in_flight,
        credited_segments=confirmed.segments or 0,
        credited_cents=confirmed.cents or 0,
        final=confirmed.sent is not None and confirmed.segments is not None,
    )


def together(each: Iterable[StopFigures]) -> StopFigures:
    """The figures of several messages; final when all are."""
    listed = list(each)
    return StopFigures(
        sent=sum(one.sent for one in listed),
        will_not_go=sum(one.will_not_go for one in listed),
        in_flight=sum(one.in_flight for one in listed),
        credited_segments=sum(one.credited_segments for one in listed),
        credited_cents=sum(one.credited_cents for one in listed),
        final=all(one.final for one in listed),
    )
