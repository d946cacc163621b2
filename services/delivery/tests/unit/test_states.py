"""What receipts say, and what others are told."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from koinonia.carrier.contract import CarrierStatus
from koinonia.events.carrier import Receipt
from koinonia_delivery.domain.states import Change, counted, reported, strongest, summarise, verdict

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
CHURCH, MESSAGE = UUID(int=1), UUID(int=2)


def receipt(status: str, recipient: int = 7, at: datetime = NOON, **fields: Any) -> Receipt:
    return Receipt(recipient_id=UUID(int=recipient), status=status, occurred_at=at, carrier_id="c1", **fields)


def change(was: str | None, became: str, **fields: Any) -> Change:
    values = {"church_id": CHURCH, "source_id": MESSAGE, "kind": "broadcast", **fields}
    return Change(was=was, became=became, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("queued", "sent"),
        ("sending", "sent"),
        ("scheduled", "sent"),
        ("sent", "sent"),
        ("delivered", "delivered"),
        ("read", "delivered"),
        ("delivery_failed", "undelivered"),
        ("sending_failed", "undelivered"),
        ("expired", "undelivered"),
        ("delivery_unconfirmed", "unconfirmed"),
        ("received", None),
        ("unknown", None),
        ("a word of tomorrow", None),
    ],
)
def test_each_word_of_the_carrier_has_its_meaning(word: str, status: str | None) -> None:
    assert reported(word) == status


def test_no_word_of_the_carrier_is_forgotten() -> None:
    without_meaning = {word for word in CarrierStatus if reported(word) is None}
    assert without_meaning == {CarrierStatus.RECEIVED, CarrierStatus.UNKNOWN}


def test_a_failure_comes_with_a_sentence_and_anything_else_without() -> None:
    failed = verdict(receipt("delivery_failed", error_code="40008"))
    assert failed is not None
    assert failed.error_code == "40008"
    assert "could not be delivered" in (failed.error_message or "")
    nameless = verdict(receipt("delivery_failed"))
    assert nameless is not None
    assert (nameless.error_code, nameless.error_message) == (None, "It could not be delivered.")
    delivered = verdict(receipt("delivered", error_code="40008"))
    assert delivered is not None
    assert (delivered.error_code, delivered.error_message) == (None, None)
    assert verdict(receipt("nonsense")) is None


def test_the_weightiest_word_on_each_counts_in_the_order_of_ids() -> None:
    words = [receipt("sent", 9), receipt("delivered", 7), receipt("sent", 7, NOON + timedelta(hours=1))]
    found = strongest(each for word in words if (each := verdict(word)) is not None)
    assert [(each.recipient_id.int, each.status) for each in found] == [(7, "delivered"), (9, "sent")]


def test_of_two_words_of_one_weight_the_later_counts() -> None:
    words = [receipt("delivered", at=NOON), receipt("delivered", at=NOON + timedelta(seconds=1))]
    (found,) = strongest(each for word in words if (each := verdict(word)) is not None)
    assert found.occurred_at == NOON + timedelta(seconds=1)


def test_a_row_whose_call_is_under_way_counts_as_queued() -> None:
    assert counted("sending") == "queued"
    assert summarise([change("queued", "sending"), change("sending", "queued")]) == []
    ((_, event),) = summarise([change("sending", "sent", newly_accepted=True, segments=2)])
    assert event.changes == {"queued": -1, "sent": 1}
    assert (event.accepted_recipients, event.accepted_segments) == (1, 2)


def test_each_source_has_one_event_with_its_church() -> None:
    other = UUID(int=3)
    events = summarise(
        [
            change(None, "queued", rows=3),
            change(None, "suppressed", rows=2),
            change("sent", "delivered", church_id=other, source_id=UUID(int=4), kind="reply"),
        ]
    )
    assert [(church_id, event.kind, event.changes) for church_id, event in events] == [
        (CHURCH, "broadcast", {"queued": 3, "suppressed": 2}),
        (other, "reply", {"sent": -1, "delivered": 1}),
    ]


def test_an_acceptance_is_told_also_where_no_status_changes() -> None:
    ((_, event),) = summarise([change("unconfirmed", "unconfirmed", newly_accepted=True, segments=1)])
    assert (event.changes, event.accepted_recipients) == ({}, 1)
