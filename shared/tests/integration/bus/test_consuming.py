"""A consumer on real servers: applied once, whatever happens on the way."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from koinonia import clock, metrics
from koinonia.bus import Bus, FactMissing, Outgoing, Subscription, dead_letters, inbox, outbox, parking, topology
from koinonia.bus.consumer import Consumer
from koinonia.bus.declare import DEAD_EXCHANGE, dead_queue, declare
from koinonia.bus.depths import Depths
from koinonia.bus.errors import QueueMissing
from koinonia.bus.failures import ATTEMPT, DIED_AT
from koinonia.bus.link import close_channel
from koinonia.bus.relay import Relay
from koinonia.bus.topology import queues_of
from koinonia.db import Transaction, statement
from koinonia.events import Envelope, Event, encode, gateway
from koinonia.life import Life
from koinonia.testing.bus_world import COUNT_INBOX, COUNT_PARKED, INSERT_EFFECT, QUEUE, World, apply
from koinonia.testing.fixtures import wait_until

LAST_ATTEMPT = {ATTEMPT: 4}  # so that the next failure is final


async def test_an_event_is_applied_in_its_church_and_acknowledged(world: World) -> None:
    churches = []

    async def handle(tx: Transaction, received: Envelope[Any]) -> None:
        churches.append(tx.church_id)
        await apply(tx, received)

    world.run(world.consumer(handle).run)
    await world.publisher.publish_events(world.event("a"))
    await wait_until(world.effects)
    assert churches == [world.church_id]
    await world.settled()
    assert await world.message_count(QUEUE) == 0


async def test_an_event_delivered_twice_is_applied_once(world: World) -> None:
    handled = []

    async def handle(tx: Transaction, received: Envelope[Any]) -> None:
        handled.append(received.id)
        await apply(tx, received)

    event = world.event("twice")
    await world.publisher.publish_events(event, event, world.event("zlast"))
    world.run(world.consumer(handle, prefetch=1).run)
    await wait_until(lambda: len(handled) == 2)
    await wait_until(lambda: _equals(world.effects, ["twice", "zlast"]))
    assert await world.count(COUNT_INBOX) == 2


async def test_an_event_whose_consumer_dies_before_the_commit_comes_again(world: World) -> None:
    began = asyncio.Event()

    async def hang(tx: Transaction, received: Envelope[Any]) -> None:
        await apply(tx, received)
        began.set()
        await asyncio.Event().wait()

    await world.publisher.publish_events(world.event("a"))
    dying = asyncio.create_task(world.consumer(hang).run(asyncio.Event()))
    await began.wait()
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    assert await world.effects() == []
    world.run(world.consumer(apply).run)
    await wait_until(lambda: _equals(world.effects, ["a"]))


async def test_a_consumer_that_stops_finishes_and_acknowledges_what_it_has(world: World) -> None:
    began, may_end = asyncio.Event(), asyncio.Event()

    async def slow(tx: Transaction, received: Envelope[Any]) -> None:
        began.set()
        await may_end.wait()
        await apply(tx, received)

    await world.publisher.publish_events(world.event("a"), world.event("b"))
    world.run(world.consumer(slow, prefetch=1).run)
    await began.wait()
    world.stopping.set()
    may_end.set()
    await world.settled()
    assert len(await world.effects()) == 1
    assert await world.message_count(QUEUE) == 1


async def test_a_consumer_that_cannot_finish_in_time_gives_its_event_back(world: World) -> None:
    began = asyncio.Event()

    async def hang(tx: Transaction, received: Envelope[Any]) -> None:
        await apply(tx, received)
        began.set()
        await asyncio.Event().wait()

    await world.publisher.publish_events(world.event("a"))
    world.run(world.consumer(hang, drain_seconds=0.1).run)
    await began.wait()
    await world.settled()
    assert await world.effects() == []
    await wait_until(lambda: _queue_has(world, 1))


async def test_a_stopping_process_gives_its_consumers_the_time_that_it_was_told(world: World) -> None:
    began = asyncio.Event()

    async def hang(tx: Transaction, received: Envelope[Any]) -> None:
        began.set()
        await asyncio.Event().wait()

    life, bus = Life(), Bus.open(world.amqp_url, "messaging")
    bus.consume(world.database, [Subscription(QUEUE, {gateway.ChurchChanged: hang})], life, drain_seconds=0.1)
    await world.publisher.publish_events(world.event("a"))
    await began.wait()
    life.stop("the test is over")
    with capture_logs() as logs:
        await life.finish(5)
    await bus.close()
    assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["drain_deadline_passed"]


async def test_a_ping_that_is_cut_off_leaves_no_channel_behind_and_costs_no_connection(world: World) -> None:
    bus = Bus.open(world.amqp_url, "messaging")
    await bus.ping()
    connection = bus._consuming._connection
    assert connection is not None
    assert connection.transport is not None
    channels = connection.transport.connection.channels
    for steps in range(0, 60, 3):
        ping = asyncio.create_task(bus.ping())
        for _ in range(steps):
            await asyncio.sleep(0)
        ping.cancel()
        await asyncio.gather(ping, return_exceptions=True)
    await bus.ping()
    assert [number for number in channels if number != 0] == []
    assert bus._consuming._connection is connection
    assert connection.connected.is_set()
    await bus.close()


async def test_the_depths_of_queues_of_which_one_is_missing_are_asked_for_later(world: World) -> None:
    measured = Depths(world.link, ["messaging.nothing"])
    with pytest.raises(QueueMissing):
        await measured.measure()
    await Depths(world.link, [QUEUE]).measure()


async def test_each_queue_of_the_service_is_measured_also_one_that_nobody_takes_from(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, queues = await world.link.channel(), queues_of("messaging")
    await declare(channel, {queue: topology.QUEUES[queue] for queue in queues})
    await close_channel(channel)
    measured = set[str]()
    gauge = SimpleNamespace(set=lambda _count, where: measured.add(where["queue"]))
    monkeypatch.setattr(metrics, "queue_messages", gauge)
    life, bus = Life(), Bus.open(world.amqp_url, "messaging")
    bus.consume(world.database, [Subscription(QUEUE, {gateway.ChurchChanged: apply})], life)
    expected = {name for queue in queues for name in (queue, dead_queue(queue))}
    assert len(expected) > 2

    async def are_all_measured() -> bool:
        return measured == expected

    await wait_until(are_all_measured)
    life.stop("the test is over")
    await life.finish(5)
    await bus.close()


async def test_inbox_rows_are_forgotten_when_no_replay_can_need_them(world: World) -> None:
    await world.publisher.publish_events(world.event("old"), world.event("young"))
    world.run(world.consumer(apply).run)
    await wait_until(lambda: _equals(world.effects, ["old", "young"]))
    async with world.database.across_churches() as tx:
        await tx.execute(_AGE_ONE)
        assert await inbox.forget(tx, 10) == 1
    assert await world.count(COUNT_INBOX) == 1


_AGE_ONE = statement(
    "test.age_one",
    """
    UPDATE inbox
    SET received_at = now() - interval '91 days'
    WHERE event_id = (SELECT event_id FROM effects WHERE name = 'old')
    """,
)


async def test_an_unreadable_event_is_dead_at_once(world: World) -> None:
    world.run(world.consumer(apply).run)
    broken = Outgoing(routing_key="gateway.church.changed", body=b'{"phone": "+12025550123"')
    churchless = Outgoing.event(msgspec.structs.replace(world.event(), church_id=None))
    await world.publisher.publish([broken, churchless])
    await wait_until(lambda: _has_letters(world, 2))
    letters = await dead_letters.show(world.link, QUEUE)
    assert {letter.attempts for letter in letters} == {1}
    assert sorted(letter.reason[:24] for letter in letters) == ["Unreadable: gateway.chur", "Unreadable: not a valid "]


async def test_an_event_under_the_key_of_another_type_is_dead_at_once_and_others_flow(world: World) -> None:
    async def apply_each(tx: Transaction, batch: Sequence[Envelope[Any]]) -> None:
        for received in batch:
            await apply(tx, received)

    world.run(world.consumer(apply_each, batch=10, linger_seconds=0.3).run)
    body = encode(world.event("forged"))
    under_another_key = Outgoing(routing_key="gateway.admin.changed", body=body)
    # The broker holds a user to the routing key alone: older ones let it name further keys in this header.
    by_a_copy = Outgoing(routing_key="gateway.backlog.reported", body=body, headers={"CC": ["gateway.church.changed"]})
    await world.publisher.publish([under_another_key, Outgoing.event(world.event("true")), by_a_copy])
    await wait_until(lambda: _equals(world.effects, ["true"]))
    await wait_until(lambda: _has_letters(world, 2))
    letters = await dead_letters.show(world.link, QUEUE)
    assert {letter.attempts for letter in letters} == {1}
    reason = "Unreadable: gateway.church.changed came under the key of another type"
    assert {letter.reason for letter in letters} == {reason}
    assert await world.effects() == ["true"]


async def test_an_event_that_this_replica_does_not_know_waits_for_one_that_does(world: World) -> None:
    old = world.consumer(apply)
    stopping = asyncio.Event()
    running = asyncio.create_task(old.run(stopping))
    later = encode(world.event("later")).replace(b"gateway.church.changed:1", b"gateway.church.changed:99")
    unknown = Outgoing(routing_key="gateway.church.changed", body=later)
    unhandled = Outgoing(routing_key="gateway.admin.changed", body=encode(world.other_event()))
    with capture_logs() as logs:
        await world.publisher.publish([unknown, unhandled])
        await wait_until(lambda: sum(entry["event"] == "event_retried" for entry in logs) >= 2)
    stopping.set()
    await running
    assert await _has_letters(world, 0)

    async def handle(tx: Transaction, received: Envelope[Any]) -> None:
        await tx.execute(INSERT_EFFECT, received.church_id, received.id, received.type)

    handlers: dict[type[Event], Any] = {gateway.AdminChanged: handle, gateway.ChurchChanged: apply}
    newer = Consumer(world.link, world.publisher, world.database, Subscription(QUEUE, handlers))
    world.run(newer.run)
    await wait_until(lambda: _equals(world.effects, ["gateway.admin.changed"]))
    await wait_until(lambda: _has_letters(world, 1))  # nobody knows version 99: given up after all tries
    (letter,) = await dead_letters.show(world.link, QUEUE)
    assert letter.attempts == 4
    assert letter.reason.startswith("UnknownEvent: ")


async def test_a_failing_event_is_tried_after_1_2_and_4_seconds_and_then_dead_with_its_story(world: World) -> None:
    tried_at: list[float] = []
    clock = asyncio.get_running_loop().time

    async def fail(tx: Transaction, received: Envelope[Any]) -> None:
        tried_at.append(clock())
        raise ValueError(f"try {len(tried_at)} with Maria Gonzalez")

    world.run(world.consumer(fail).run)
    event = world.event("poison")
    await world.publisher.publish_events(event)
    await wait_until(lambda: _has_letters(world, 1))
    pauses = [after - before for before, after in pairwise(tried_at)]
    assert [round(pause) for pause in pauses] == [1, 2, 4]
    (letter,) = await dead_letters.show(world.link, QUEUE)
    assert letter.id == str(event.id)
    assert letter.attempts == 4
    assert letter.first_error == "ValueError"
    assert letter.reason == "ValueError"
    assert letter.stack.splitlines()[-1].endswith(" fail")
    assert letter.routing_key == "gateway.church.changed"
    assert letter.first_failed_at is not None
    assert letter.died_at is not None
    assert 6.5 < (letter.died_at - letter.first_failed_at).total_seconds() < 20
    assert await world.count(COUNT_INBOX) == 0


async def test_a_replayed_dead_letter_is_applied_once(world: World) -> None:
    healed = False

    async def handle(tx: Transaction, received: Envelope[Any]) -> None:
        if not healed:
            raise RuntimeError("a bug")
        await apply(tx, received)

    world.run(world.consumer(handle).run)
    event = world.event("replayed")
    last_try = Outgoing(
        routing_key=QUEUE, exchange="", body=encode(event), headers=LAST_ATTEMPT | {"koinonia-event-id": str(event.id)}
    )
    await world.publisher.publish([last_try, last_try])
    await wait_until(lambda: _has_letters(world, 2))
    assert await dead_letters.replay(world.link, world.publisher, QUEUE, "another id") == 0
    healed = True
    await wait_until(lambda: _has_letters(world, 2))  # what was looked at goes back in a moment
    assert await dead_letters.replay(world.link, world.publisher, QUEUE, str(event.id)) == 2
    await wait_until(lambda: _equals(world.effects, ["replayed"]))
    await world.settled()
    assert await world.effects() == ["replayed"]
    assert (await dead_letters.count(world.link, [QUEUE]))[QUEUE] == 0


async def test_a_letter_that_the_inbox_may_have_forgotten_is_not_replayed(world: World) -> None:
    old, young = world.event("old"), world.event("young")
    for event, days in ((old, 89.1), (young, 88.9)):
        headers = {"koinonia-event-id": str(event.id), DIED_AT: (clock.now() - timedelta(days=days)).isoformat()}
        await world.publisher.publish(
            [Outgoing(exchange=DEAD_EXCHANGE, routing_key=QUEUE, body=encode(event), headers=headers)]
        )
    await wait_until(lambda: _has_letters(world, 2))
    with pytest.raises(dead_letters.LetterTooOld, match=rf"{old.id} died more than 89 days ago.*1 others"):
        await dead_letters.replay(world.link, world.publisher, QUEUE)
    await wait_until(lambda: _has_letters(world, 1))
    assert [letter.id for letter in await dead_letters.show(world.link, QUEUE)] == [str(old.id)]
    assert await world.message_count(QUEUE) == 1


async def test_the_dead_letters_of_a_queue_that_is_missing_are_none(world: World) -> None:
    assert await dead_letters.count(world.link, ["messaging.nothing"]) == {"messaging.nothing": 0}


async def test_dead_letters_can_be_dropped_one_by_one(world: World) -> None:
    async def fail(tx: Transaction, received: Envelope[Any]) -> None:
        raise RuntimeError("a bug")

    world.run(world.consumer(fail).run)
    events = [world.event("a"), world.event("b")]
    await world.publisher.publish(
        [
            Outgoing(
                exchange="",
                routing_key=QUEUE,
                body=encode(each),
                headers=LAST_ATTEMPT | {"koinonia-event-id": str(each.id)},
            )
            for each in events
        ]
    )
    await wait_until(lambda: _has_letters(world, 2))
    assert await dead_letters.purge(world.link, QUEUE, str(events[0].id)) == 1
    await wait_until(lambda: _has_letters(world, 1))
    assert [letter.id for letter in await dead_letters.show(world.link, QUEUE)] == [str(events[1].id)]


_END_OWN_SESSION = statement("test.end_session", "SELECT pg_terminate_backend(pg_backend_pid())")


async def test_a_lost_database_session_spends_no_retry(world: World) -> None:
    tries = []

    async def lose(tx: Transaction, received: Envelope[Any]) -> None:
        tries.append(received.id)
        if len(tries) <= 3:
            await tx.execute(_END_OWN_SESSION)
        await apply(tx, received)

    world.run(world.consumer(lose).run)
    await world.publisher.publish_events(world.event("a"))
    await wait_until(lambda: _equals(world.effects, ["a"]))
    assert len(tries) == 4
    # Nothing was published on the way: no delayed retry, no dead letter.
    assert world.consumers_publisher.last_confirm_at is None


async def test_an_event_that_alone_times_out_is_retried_and_does_not_hold_its_queue_for_ever(world: World) -> None:
    async def time_out(tx: Transaction, received: Envelope[Any]) -> None:
        if received.data.name == "slow":
            raise TimeoutError
        await apply(tx, received)

    slow = world.event("slow")
    last_try = Outgoing(exchange="", routing_key=QUEUE, body=encode(slow), headers=LAST_ATTEMPT)
    await world.publisher.publish([last_try, Outgoing.event(world.event("next"))])
    world.run(world.consumer(time_out, prefetch=1).run)
    await wait_until(lambda: _equals(world.effects, ["next"]))
    assert (await dead_letters.show(world.link, QUEUE))[0].reason.startswith("TimeoutError")


FACT = "church:1"


async def test_an_event_before_its_fact_is_parked_and_released_by_it(world: World) -> None:
    facts: set[str] = set()
    consumer = world.consumer(needs(facts))
    sweep = parking.Sweep(world.database, world.publisher, [consumer.applier], seconds=60)
    world.run(consumer.run)
    world.run(sweep.run)
    world.listen({parking.channel_of(world.database.service): sweep.woken})
    await world.publisher.publish_events(world.event("late"))
    await wait_until(lambda: _counts(world, COUNT_PARKED, 1))
    assert await world.effects() == []
    assert await world.count(COUNT_INBOX) == 0
    async with world.database.tenant(world.church_id) as tx:
        facts.add(FACT)
        await parking.release(tx, FACT)
    await wait_until(lambda: _equals(world.effects, ["late"]))
    assert await world.count(COUNT_PARKED) == 0
    assert await world.count(COUNT_INBOX) == 1


async def test_a_sweep_finds_what_crossed_its_fact(world: World) -> None:
    facts: set[str] = set()
    consumer = world.consumer(needs(facts))
    world.run(consumer.run)
    await world.publisher.publish_events(world.event("a"), world.event("b"))
    await wait_until(lambda: _counts(world, COUNT_PARKED, 2))
    sweep = parking.Sweep(world.database, world.publisher, [consumer.applier])
    await sweep.sweep()
    assert await world.effects() == []
    facts.add(FACT)
    await asyncio.gather(sweep.sweep(), sweep.sweep())
    assert await world.effects() == ["a", "b"]
    assert await world.count(COUNT_PARKED) == 0


async def test_a_parked_event_that_comes_again_is_applied_once(world: World) -> None:
    facts: set[str] = set()
    consumer = world.consumer(needs(facts))
    world.run(consumer.run)
    event = world.event("a")
    await world.publisher.publish_events(event)
    await wait_until(lambda: _counts(world, COUNT_PARKED, 1))
    facts.add(FACT)
    await world.publisher.publish_events(event)
    await wait_until(lambda: _equals(world.effects, ["a"]))
    await parking.Sweep(world.database, world.publisher, [consumer.applier]).sweep()
    assert await world.effects() == ["a"]
    assert await world.count(COUNT_PARKED) == 0


async def test_an_event_parked_for_ten_minutes_alarms(world: World) -> None:
    consumer = world.consumer(needs(set()))
    world.run(consumer.run)
    await world.publisher.publish_events(world.event("forgotten"))
    await wait_until(lambda: _counts(world, COUNT_PARKED, 1))
    with capture_logs() as logs:
        world.run(parking.Sweep(world.database, world.publisher, [consumer.applier], seconds=0.05).run)
        async with world.database.across_churches() as tx:
            await tx.execute(_AGE_PARKED)
        await wait_until(lambda: any(entry["event"] == "events_parked_too_long" for entry in logs))
    assert {entry["log_level"] for entry in logs if entry["event"] == "events_parked_too_long"} == {"error"}


_AGE_PARKED = statement("test.age_parked", "UPDATE parked SET parked_at = now() - interval '601 seconds'")


async def test_what_follows_from_an_event_names_it_as_its_cause_and_keeps_the_correlation(world: World) -> None:
    async def handle(tx: Transaction, received: Envelope[Any]) -> None:
        if received.causation_id is None:
            await outbox.add(tx, received.data)
            return
        followers.append(received)

    followers: list[Envelope[Any]] = []
    cause = msgspec.structs.replace(world.event("cause"), correlation_id="request-1")
    world.run(world.consumer(handle).run)
    world.run(Relay(world.database, world.publisher, clock_seconds=0.05).run)
    await world.publisher.publish_events(cause)
    await wait_until(lambda: followers)
    assert followers[0].causation_id == str(cause.id)
    assert followers[0].correlation_id == "request-1"
    assert followers[0].church_id == world.church_id


async def test_a_parked_event_whose_handler_has_a_bug_dies_like_any_other(world: World) -> None:
    facts: set[str] = set()

    async def handle(tx: Transaction, received: Envelope[Any]) -> None:
        if FACT not in facts:
            raise FactMissing(FACT)
        raise ValueError("a bug")

    consumer = world.consumer(handle)
    world.run(consumer.run)
    await world.publisher.publish_events(world.event("a"))
    await wait_until(lambda: _counts(world, COUNT_PARKED, 1))
    await world.settled()
    facts.add(FACT)
    await parking.Sweep(world.database, world.publisher, [consumer.applier]).sweep()
    assert await world.count(COUNT_PARKED) == 0
    await wait_until(lambda: _queue_has(world, 1))


def needs(facts: set[str]) -> Any:
    """A handler that needs FACT."""

    async def handle(tx: Transaction, received: Envelope[Any]) -> None:
        if FACT not in facts:
            raise FactMissing(FACT)
        await apply(tx, received)

    return handle


async def test_a_subscription_that_the_broker_has_forgotten_is_made_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from koinonia.bus.session import Session

    sessions: list[Session] = []
    opened = Session.open.__func__  # type: ignore[attr-defined]

    async def remember(*arguments: Any) -> Session:
        sessions.append(await opened(Session, *arguments))
        return sessions[-1]

    monkeypatch.setattr(Session, "open", remember)
    world.run(world.consumer(apply, renew_seconds=0.3).run)
    await wait_until(lambda: sessions)
    underlay = await sessions[0]._channel.get_underlay_channel()
    await underlay.basic_cancel(sessions[0]._consumer_tag)
    await world.publisher.publish_events(world.event("a"))
    await wait_until(lambda: _equals(world.effects, ["a"]))


async def test_a_queue_deleted_and_made_again_is_consumed_again(world: World) -> None:
    # The broker often says nothing of a consumer that it loses this way: only the renewal finds out.
    world.run(world.consumer(apply, renew_seconds=0.3).run)
    await world.publisher.publish_events(world.event("before"))
    await wait_until(lambda: _equals(world.effects, ["before"]))
    await world.delete_queue()
    await world.declare()
    await world.publisher.publish_events(world.event("later"))
    await wait_until(lambda: _equals(world.effects, ["before", "later"]))


async def _equals(read: Any, wanted: list[str]) -> bool:
    return bool(await read() == wanted)


async def _counts(world: World, sql: Any, wanted: int) -> bool:
    return await world.count(sql) == wanted


async def _queue_has(world: World, wanted: int) -> bool:
    return await world.message_count(QUEUE) == wanted


async def _has_letters(world: World, wanted: int) -> bool:
    return (await dead_letters.count(world.link, [QUEUE]))[QUEUE] == wanted
