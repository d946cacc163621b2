"""The demo's figures: they agree where they should, and a difference in any one place is found."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest

from koinonia.api.billing import Usage
from koinonia.api.messages import Message, MessageCounts, Recipient, RecipientStatus
from koinonia.demo.carrier import CarrierText
from koinonia.demo.figures import Evidence, Expected, Metered, all_agree, compare, disagreeing, exact, rate

MESSAGE = UUID("01a20000-0000-7000-8000-000000000001")
REPLY = UUID("01a20000-0000-7000-8000-000000000002")
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
EXPECTED = Expected(
    title="Sunday", message_id=MESSAGE, ending=", at ten.", numbers=5, suppressed=1, failed=1, note="six members"
)


def copy_of(place: int, status: RecipientStatus = "delivered") -> Recipient:
    sent_at = None if status == "suppressed" else NOON + timedelta(seconds=place)
    return msgspec.structs.replace(
        Recipient.example(), id=UUID(int=place), status=status, segments=1, sent_at=sent_at, phone=f"+1205555010{place}"
    )


def text_of(place: int, status: str = "delivered") -> CarrierText:
    return CarrierText(
        sender="+12055550199",
        recipient=f"+1205555010{place}",
        text=f"Hi number {place}, at ten.",
        parts=1,
        token=f"token {place}",
        status=status,
        accepted_at=NOON + timedelta(seconds=place),
    )


ANSWER = msgspec.structs.replace(text_of(0), text="Of course!", token="of the reply")
TEXTS = (text_of(0), text_of(1), text_of(2), text_of(3, "delivery_failed"), ANSWER)


def evidence(texts: Sequence[CarrierText] = TEXTS) -> Evidence:
    """Five numbers: three delivered, one failed, one suppressed; and one reply."""
    counts = MessageCounts(delivered=3, undelivered=1, suppressed=1)
    message = msgspec.structs.replace(Message.example(), id=MESSAGE, total_recipients=5, counts=counts)
    usage = msgspec.structs.replace(
        Usage.example(), recipients=5, segments=5, used_segments=5, reserved_segments=0, remaining_segments=4995
    )
    return Evidence(
        messages={MESSAGE: message},
        copies={MESSAGE: [*map(copy_of, range(3)), copy_of(3, "undelivered"), copy_of(4, "suppressed")]},
        usage=usage,
        ledger={MESSAGE: Metered(recipients=4, segments=4), REPLY: Metered(recipients=1, segments=1)},
        texts=texts,
    )


def test_figures_that_are_the_same_everywhere_agree() -> None:
    assert disagreeing(compare([EXPECTED], evidence())) == []


def test_a_text_that_the_carrier_never_saw_is_found() -> None:
    sections = compare([EXPECTED], evidence(TEXTS[1:]))
    assert not all_agree(sections)
    assert "Sunday: sent" in disagreeing(sections)
    assert "Everything together: texts" in disagreeing(sections)


def test_a_text_that_came_twice_is_found_by_its_words() -> None:
    again = msgspec.structs.replace(TEXTS[0], token="another")
    assert "Sunday: duplicates at the carrier" in disagreeing(compare([EXPECTED], evidence((*TEXTS, again))))


def test_a_text_that_came_twice_is_found_by_its_token() -> None:
    again = msgspec.structs.replace(TEXTS[0], text="Hello, at ten.")
    assert "Sunday: duplicates at the carrier" in disagreeing(compare([EXPECTED], evidence((*TEXTS, again))))


def test_a_segment_that_the_ledger_has_too_many_is_found() -> None:
    seen = evidence()
    ledger = {**seen.ledger, MESSAGE: Metered(recipients=4, segments=5)}
    found = disagreeing(compare([EXPECTED], msgspec.structs.replace(seen, ledger=ledger)))
    assert found == [
        "Sunday: billed segments",
        "Everything together: billed segments",
        "Everything together: used of the plan",
    ]


def test_a_message_that_the_ledger_does_not_know_is_found() -> None:
    seen = evidence()
    ledger = {REPLY: seen.ledger[REPLY]}
    assert "Sunday: sent" in disagreeing(compare([EXPECTED], msgspec.structs.replace(seen, ledger=ledger)))


@pytest.mark.parametrize("name", ["delivered", "undelivered", "suppressed"])
def test_a_counter_that_is_off_by_one_is_found(name: str) -> None:
    seen = evidence()
    message = seen.messages[MESSAGE]
    counts = msgspec.structs.replace(message.counts, **{name: getattr(message.counts, name) + 1})
    messages = {MESSAGE: msgspec.structs.replace(message, counts=counts)}
    assert not all_agree(compare([EXPECTED], msgspec.structs.replace(seen, messages=messages)))


def test_what_the_file_makes_expect_counts_too() -> None:
    expected = msgspec.structs.replace(EXPECTED, numbers=6)
    assert disagreeing(compare([expected], evidence()))[:2] == ["Sunday: accepted", "Sunday: sent"]


def test_a_place_that_does_not_know_a_figure_has_no_say() -> None:
    line = exact("members", file=3, api=3)
    assert line.agrees
    assert line.values == {"file": 3, "api": 3, "copies": None, "ledger": None, "carrier": None}


def test_a_figure_that_nobody_knows_does_not_agree() -> None:
    assert not exact("members").agrees


def test_rates_agree_when_the_spans_do() -> None:
    moments = [NOON, NOON + timedelta(seconds=10)]
    line = rate("rate", copies=moments, carrier=[NOON, NOON + timedelta(seconds=11)])
    assert line.agrees
    assert line.values["copies"] == pytest.approx(0.2)


def test_rates_differ_when_one_took_much_longer() -> None:
    assert not rate("rate", copies=[NOON, NOON + timedelta(seconds=10)], carrier=[NOON, NOON + timedelta(20)]).agrees


def test_no_text_at_all_has_no_rate() -> None:
    assert not rate("rate", copies=[], carrier=[]).agrees
