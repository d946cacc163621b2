"""A church that stops everything knows what went out; one that pauses goes on where it rested."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import msgspec

from koinonia.api.messages import Message, StopFigures
from koinonia.testing.fixtures import wait_until

from .church import Church

SENT = ("sent", "delivered", "undelivered", "unconfirmed")
PEOPLE = 600


async def test_a_stop_in_mid_broadcast_tells_what_the_carrier_and_the_bill_tell(
    new_church: Callable[[], Awaitable[Church]],
) -> None:
    ours, theirs = await new_church(), await new_church()
    phones = [person.phone for person in await ours.add(PEOPLE)]
    await theirs.add(60)
    await ours.platform.carrier.order("latency", phones, seconds=1)
    sent = await ours.send("Never mind.")
    other = await theirs.send("This one goes out.")
    await until_sent(ours, sent, 40)
    key = f"stop-{uuid4()}"
    stop = await ours.client.messages.stop(idempotency_key=key)

    async def is_final() -> bool:
        return (await ours.client.messages.stop(idempotency_key=key)).final

    await wait_until(is_final, seconds=60, what="final figures")
    stop = await ours.client.messages.stop(idempotency_key=key)
    assert (stop.messages, stop.sent + stop.will_not_go + stop.in_flight) == (1, PEOPLE)
    assert stop.sent >= 40
    assert stop.will_not_go > 0

    await until_closed(ours, sent)
    message = await ours.client.messages.get(sent.id)
    assert message.status == "cancelled"
    rows = await ours.agrees(sent.id)  # counters, rows and the carrier's record tell the same
    record = len(await ours.texts())
    assert record == sum(getattr(message.counts, status) for status in SENT)
    assert stop.sent <= record <= stop.sent + stop.in_flight
    assert PEOPLE - len(rows) + message.counts.cancelled == PEOPLE - record
    assert stop.credited_segments == PEOPLE - stop.sent - stop.in_flight  # one each, and all were reserved
    assert stop.credited_cents == 0  # within what the trial includes
    usage = await ours.is_metered(record)
    assert (usage.segments, usage.reserved_segments) == (record, 0)

    assert figures(message.stopped) == figures(stop)
    assert figures(await ours.client.messages.cancel(sent.id)) == figures(stop)
    assert figures(await ours.client.messages.stop()) == figures(stop)  # called again, nothing else is there
    await theirs.client.messages.wait_until_completed(other.id, timeout_seconds=60)
    await theirs.agrees(other.id)

    later = await ours.send("When we go on.")
    await asyncio.sleep(2)
    assert len(await ours.texts()) == record
    (number,) = [number async for number in ours.client.numbers.list()]
    assert (number.status, number.hold_reason) == ("held", "All sending of your church is paused.")
    assert (await ours.client.churches.sending(ours.id)).paused
    assert not (await ours.client.churches.resume_sending(ours.id)).paused
    await ours.client.messages.wait_until_completed(later.id, timeout_seconds=90)
    await ours.agrees(later.id)


async def test_a_paused_broadcast_rests_and_goes_on_and_nobody_gets_it_twice(church: Church) -> None:
    phones = [person.phone for person in await church.add(PEOPLE)]
    await church.platform.carrier.order("latency", phones, seconds=2)
    sent = await church.send("In two parts.")
    await until_sent(church, sent, 20)
    paused = await church.client.messages.pause(sent.id)
    assert (paused.status, paused.pause_reason) == ("paused", None)
    counted = -1

    async def rests() -> bool:
        nonlocal counted
        before, counted = counted, len(await church.texts())
        await asyncio.sleep(3)
        return counted == before

    await wait_until(rests, seconds=60, what="the end of what was under way")
    assert counted < PEOPLE
    assert (await church.client.messages.resume(sent.id)).status == "sending"
    message = await church.client.messages.wait_until_completed(sent.id, timeout_seconds=60)
    assert message.counts.delivered == PEOPLE
    await church.agrees(sent.id)
    await church.is_metered(PEOPLE)


async def test_a_broadcast_that_the_carrier_refuses_pauses_itself_and_says_why(church: Church) -> None:
    phones = [person.phone for person in await church.add(PEOPLE)]
    carrier = church.platform.carrier
    await carrier.order("latency", phones[1::2], seconds=2)
    await carrier.order("error", phones[::2], status=400, code="40012", title="Invalid messaging destination number")
    sent = await church.send("Half of you are no phones.")

    async def is_paused() -> bool:
        return (await church.client.messages.get(sent.id)).status == "paused"

    await wait_until(is_paused, seconds=30, what="a broadcast that pauses itself")
    reason = (await church.client.messages.get(sent.id)).pause_reason
    assert reason is not None
    assert "were refused by the carrier. Most often: This is not a phone number" in reason
    assert "(code 40012)" in reason
    cancelled = await church.client.messages.cancel(sent.id)
    assert cancelled.sent + cancelled.will_not_go + cancelled.in_flight == PEOPLE
    await until_closed(church, sent)
    await church.agrees(sent.id)
    assert len(await church.texts()) < PEOPLE / 2


def figures(answer: StopFigures | None) -> tuple[object, ...]:
    assert answer is not None
    return tuple(getattr(answer, name) for name in msgspec.structs.asdict(StopFigures.example()))


async def until_sent(church: Church, sent: Message, count: int) -> None:
    """Wait until so many have been delivered."""

    async def are() -> bool:
        return (await church.client.messages.get(sent.id)).counts.delivered >= count

    await wait_until(are, seconds=60, what=f"{count} delivered")


async def until_closed(church: Church, sent: Message) -> None:
    """Wait until no row of a cancelled message is open."""

    async def is_closed() -> bool:
        return (await church.client.messages.get(UUID(str(sent.id)))).completed_at is not None

    await wait_until(is_closed, seconds=60, what="the end of those in flight")
