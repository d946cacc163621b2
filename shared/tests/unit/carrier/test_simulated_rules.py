"""The simulated carrier's rules without a server: parts, faults, record, keys, rates."""

import tracemalloc

import pytest

from koinonia import clock
from koinonia.carrier.simulated.errors import TelnyxError
from koinonia.carrier.simulated.faults import Fault, Faults
from koinonia.carrier.simulated.idempotency import Keys
from koinonia.carrier.simulated.limits import Limits
from koinonia.carrier.simulated.parts import encode
from koinonia.carrier.simulated.record import Record, Text
from koinonia.carrier.simulated.registry import Number, kind_of


def text(recipient: str = "+12055550111", token: str | None = "t", parts: int = 1) -> Text:
    return Text(
        id=f"{recipient}-{token}",
        sender="+12055550100",
        recipient=recipient,
        text="hi",
        media_urls=(),
        subject=None,
        encoding="GSM-7",
        parts=parts,
        profile_id="p",
        webhook_urls=(),
        webhook_url=None,
        webhook_failover_url=None,
        token=token,
        idempotency_key=None,
        accepted_at=clock.now(),
        accepted_monotonic=0.0,
        wait_seconds=0.0,
    )


@pytest.mark.parametrize(
    ("written", "encoding", "parts"),
    [
        ("a" * 160, "GSM-7", 1),
        ("a" * 161, "GSM-7", 2),
        ("a" * 153 * 2, "GSM-7", 2),
        ("a" * (153 * 2 + 1), "GSM-7", 3),
        ("€" * 80, "GSM-7", 1),
        ("€" * 81, "GSM-7", 2),
        ("a" * 152 + "€" + "a" * 152, "GSM-7", 3),  # the pair is not split: 152, then 2 + 151, then 1
        ("Ж" * 70, "UCS-2", 1),
        ("Ж" * 71, "UCS-2", 2),
        ("😀" * 35, "UCS-2", 1),
        ("😀" * 36, "UCS-2", 2),
        ("😀" * 66 + "a", "UCS-2", 2),  # 33 pairs a part, one unit stays empty
        ("😀" * 67, "UCS-2", 3),
        ("Ω", "UCS-2", 1),  # in GSM-7, but not in the carrier's
        ("`", "UCS-2", 1),
        ("Ç", "UCS-2", 1),
    ],
)
def test_parts_are_counted_as_the_carrier_counts(written: str, encoding: str, parts: int) -> None:
    assert encode(written) == (encoding, parts)


def test_an_encoding_can_be_asked_for() -> None:
    assert encode("hi", "ucs2") == ("UCS-2", 1)
    assert encode("Ж", "gsm7") is None


def test_a_counted_fault_strikes_the_next_cases_and_then_no_more() -> None:
    faults = Faults()
    faults.add(Fault(kind="reset", next=2))
    assert [faults.strike("reset", "+1") is not None for _ in range(4)] == [True, True, False, False]
    assert faults.orders[0].struck == 2


def test_a_share_strikes_about_that_often_and_in_the_same_places_for_the_same_seed() -> None:
    def places(seed: int) -> list[int]:
        faults = Faults(seed)
        faults.add(Fault(kind="answer_lost", share=0.1))
        return [place for place in range(1000) if faults.strike("answer_lost", "+1")]

    assert 60 < len(places(1)) < 140
    assert places(1) == places(1)
    assert places(1) != places(2)


def test_a_fault_for_named_recipients_spares_others() -> None:
    faults = Faults()
    faults.add(Fault(kind="error", recipients=frozenset({"+1"})))
    assert faults.strike("error", "+1")
    assert not faults.strike("error", "+2")
    assert not faults.strike("reset", "+1")


def test_a_receipt_fault_keeps_to_its_event_and_any_means_outbound_ones() -> None:
    faults = Faults()
    faults.add(Fault(kind="receipt_dropped", event="finalized"), Fault(kind="receipt_doubled"))
    assert not faults.strike("receipt_dropped", "+1", "sent")
    assert faults.strike("receipt_dropped", "+1", "finalized")
    assert faults.strike("receipt_doubled", "+1", "sent")
    assert not faults.strike("receipt_doubled", "+1", "received")


def test_the_same_recipient_and_token_again_is_a_duplicate() -> None:
    record = Record()
    for recipient, token in (
        ("+1", "a"),
        ("+2", "a"),
        ("+1", "b"),
        ("+1", "a"),
        ("+1", "a"),
        ("+1", None),
        ("+1", None),
    ):
        record.add(text(recipient, token, parts=2))
    summary = record.summary()
    assert (summary.accepted, summary.parts, summary.recipients) == (7, 14, 2)
    assert (summary.duplicates, summary.without_token) == (2, 2)
    assert [copy.token for copy in record.duplicates] == ["a", "a"]


def test_a_recorded_text_costs_little_memory() -> None:
    record, count = Record(), 10_000
    tracemalloc.start()
    for place in range(count):
        record.add(text(f"+1205{2_000_000 + place}", f"token-{place}"))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert record.summary().accepted == count
    assert size / count < 2000  # bytes a text: 200 MB for 100,000


def test_a_status_moves_from_one_figure_to_the_next() -> None:
    record = Record()
    first = text()
    record.add(first)
    record.move(first, "delivered")
    assert record.summary().statuses == {"delivered": 1}


def test_a_key_replays_its_text_for_the_same_body_for_24_hours() -> None:
    keys, made = Keys(), text()
    assert keys.begin("k:1_A-z", b"body") is None
    keys.finish("k:1_A-z", made)
    assert keys.begin("k:1_A-z", b"body") is made
    with clock.shifted(24 * 3600 - 60):
        assert keys.begin("k:1_A-z", b"body") is made
    with clock.shifted(24 * 3600 + 60):
        assert keys.begin("k:1_A-z", b"body") is None


def test_a_key_in_use_is_409_another_body_422_and_a_failed_request_gives_it_back() -> None:
    keys = Keys()
    keys.begin("k", b"body")
    for body, status in ((b"body", 409), (b"other", 422)):
        with pytest.raises(TelnyxError) as caught:
            keys.begin("k", body)
        assert caught.value.status == status
    keys.forget("k")
    assert keys.begin("k", b"other") is None


@pytest.mark.parametrize("key", ["", "a b", "ä", "k" * 256, "a/b"])
def test_a_malformed_key_is_10015(key: str) -> None:
    with pytest.raises(TelnyxError) as caught:
        Keys().begin(key, b"body")
    assert (caught.value.status, caught.value.error["code"]) == (400, "10015")


def number(phone: str = "+12055550100") -> Number:
    return Number(id="n", phone=phone, kind=kind_of(phone), profile_id="p", created_at=clock.now())


@pytest.mark.parametrize(
    ("phone", "rate"), [("+12055550100", 40.0), ("+18885550100", 20.0), ("55555", 1000.0), ("+447700900123", 0.1)]
)
def test_the_real_rates_go_by_the_kind_of_number(phone: str, rate: float) -> None:
    limits = Limits()
    limits.take(number(phone), 1, "real", now=0.0)
    assert limits.take(number(phone), 1, "real", now=0.0) == pytest.approx(1 / rate)


def test_over_its_rate_a_number_waits_and_is_free_again_later() -> None:
    limits = Limits()
    assert [limits.take(number(), 2, 4.0, now=100.0) for _ in range(3)] == [0.0, 0.5, 1.0]
    assert limits.take(number("+12055550101"), 2, 4.0, now=100.0) == 0.0
    assert limits.take(number(), 1, 4.0, now=200.0) == 0.0
    assert limits.take(number(), 1, "none", now=200.0) == 0.0


def test_more_than_four_hours_of_queue_is_40318() -> None:
    limits = Limits()
    limits.take(number(), 4 * 3600 + 1, 1.0, now=0.0)
    with pytest.raises(TelnyxError) as caught:
        limits.take(number(), 1, 1.0, now=0.0)
    assert caught.value.error["code"] == "40318"
