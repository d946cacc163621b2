"""What becomes of a broadcast whose receipts, answers and texts go wrong at the carrier."""

from koinonia.api.messages import Message
from koinonia.testing.fixtures import wait_until

from .church import Church


async def test_a_thousand_receipts_lost_doubled_early_and_late_are_counted_right(church: Church) -> None:
    carrier = church.platform.carrier
    phones = [person.phone for person in await church.add(1000)]
    lost, doubled, early, late = phones[:30], phones[30:130], phones[130:180], phones[180:230]
    reordered, failed = phones[230:280], phones[280:300]
    await carrier.order("receipt_dropped", lost, event="finalized")
    await carrier.order("receipt_doubled", doubled)
    await carrier.order("receipt_early", early)
    await carrier.order("receipt_late", late, event="finalized")
    await carrier.order("receipt_reordered", reordered)
    await carrier.order("final_status", failed, final_status="delivery_failed", code="40006")

    sent = await church.send("A thousand people, one text each.")
    await until_counted(church, sent, sent=80, delivered=900, undelivered=20)
    handed_over = await church.client.messages.get(sent.id)
    assert (handed_over.status, handed_over.completed_at) == ("handed_over", None)
    await church.agrees(sent.id)

    await carrier.deliver_pending()
    await until_counted(church, sent, sent=30, delivered=950, undelivered=20)
    rows = await church.agrees(sent.id)
    by_phone = {row.phone: row for row in rows}
    assert {row.phone for row in rows if row.status == "undelivered"} == set(failed)
    assert all(by_phone[phone].error_code and by_phone[phone].error_message for phone in failed)
    only_sent = [row async for row in church.client.messages.recipients(sent.id, status="sent")]
    assert {row.phone for row in only_sent} == set(lost)

    struck = await carrier.struck()
    assert struck["receipt_dropped"] == 30
    assert struck["receipt_doubled"] >= 100
    assert struck["receipt_early"] == struck["receipt_late"] == struck["receipt_reordered"] == 50
    await church.is_metered(1000)


async def test_lost_answers_refusals_and_resets_end_in_one_text_each(church: Church) -> None:
    carrier = church.platform.carrier
    phones = [person.phone for person in await church.add(60)]
    await carrier.order("answer_lost", phones[:5], next=5)
    await carrier.order("answer_error", phones[5:8], next=3, status=502)
    await carrier.order("answer_garbled", phones[8:10], next=2)
    await carrier.order("reset", phones[10:13], next=3)
    await carrier.order("error", phones[13:16], next=3, status=500)
    await carrier.order("rate_limited", phones[16:18], next=2, seconds=1)
    await carrier.order("error", phones[18:20], status=400, code="40310", title="Invalid 'to' address")
    # No receipt settles the unknown ones before they are tried again under their key.
    await carrier.order("receipt_late", phones[:10], seconds=15)
    replayed = (await carrier.summary())["replayed"]
    sent = await church.send("Whatever the carrier answers.")
    message = await church.client.messages.wait_until_completed(sent.id, timeout_seconds=60)
    assert (message.counts.delivered, message.counts.failed) == (58, 2)
    assert (await carrier.summary())["replayed"] - replayed >= 10
    rows = await church.agrees(sent.id)
    assert {row.phone for row in rows if row.status == "failed"} == set(phones[18:20])
    await church.is_metered(58)


async def test_what_cannot_be_sent_any_more_is_cancelled(church: Church) -> None:
    phones = [person.phone for person in await church.add(600)]
    await church.platform.carrier.order("latency", phones, seconds=1)
    sent = await church.send("Never mind.")

    async def some_are_there() -> bool:
        return (await church.client.messages.get(sent.id)).counts.delivered > 0

    await wait_until(some_are_there, what="the first receipt")
    await church.client.messages.cancel(sent.id)
    await until_closed(church, sent)
    message = await church.client.messages.get(sent.id)
    assert message.status == "cancelled"
    assert message.counts.cancelled > 0
    assert message.counts.cancelled + message.counts.delivered == 600
    await church.agrees(sent.id)
    await church.is_metered(message.counts.delivered)


async def until_counted(church: Church, message: Message, **wanted: int) -> None:
    """Wait until the message's counters say so."""

    async def is_counted() -> bool:
        counts = (await church.client.messages.get(message.id)).counts
        return all(getattr(counts, status) == count for status, count in wanted.items())

    await wait_until(is_counted, seconds=60, what=f"a message with {wanted}")


async def until_closed(church: Church, message: Message) -> None:
    """Wait until no recipient of the message is open."""
    await until_counted(church, message, queued=0, sending=0, sent=0, unknown=0)
