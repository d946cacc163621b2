"""The carrier's webhooks over real HTTP, with real signatures, a real broker and one that is away."""

import asyncio
import itertools
import os
import secrets
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from koinonia import clock
from koinonia.bus import Bus, outbox
from koinonia.carrier.contract import with_token
from koinonia.carrier.webhooks import SIGNATURE_HEADER, TIMESTAMP_HEADER, Signer
from koinonia.db import statement
from koinonia.db.statistics import StatementLog
from koinonia.events import Envelope, Event, decode
from koinonia.events.carrier import MessageReceived, Receipt, StatusReceived
from koinonia.events.delivery import NumberChanged
from koinonia.events.gateway import BacklogReported
from koinonia.ids import new_id
from koinonia.life import Life
from koinonia.secret import Secret
from koinonia.security import Keys, receipt_token
from koinonia.testing.databases import Databases
from koinonia.testing.fixtures import wait_until
from koinonia.testing.services import BusProbe
from koinonia_gateway.intake import Intake
from koinonia_gateway.schedule import BacklogReport

from .conftest import Browser, NewBrowser, Service, StartGateway

STATUS, MMS = "/api/webhooks/telnyx/status", "/api/webhooks/telnyx/mms"
OURS, THEIRS = "+12055550100", "+13125550142"
AWAY = "amqp://guest:guest@127.0.0.1:1/"
DELETE_OUTBOX = statement("test.delete_outbox", "DELETE FROM outbox")
FETCH_OUTBOX = statement("test.fetch_outbox", "SELECT body FROM outbox WHERE type LIKE 'carrier.%' ORDER BY id")


def receipt(
    keys: Keys, recipient_id: UUID, status: str = "delivered", *, trace: str | None = None, **meta: Any
) -> bytes:
    url = with_token("http://x/status", receipt_token(keys, recipient_id), trace)
    payload = {"id": "m-1", "to": [{"phone_number": THEIRS, "status": status}], "webhook_url": url, "parts": 1}
    return wrapped("message.finalized", payload, str(new_id()), **meta)


def text(content: str | None = "STOP", *, event_id: str = "e-1", to: str = OURS, **meta: Any) -> bytes:
    payload = {"id": "m-2", "from": {"phone_number": THEIRS}, "to": [{"phone_number": to}], "text": content}
    return wrapped("message.received", {**payload, "autoresponse_type": "STOP"}, event_id, **meta)


def wrapped(kind: str, payload: Any, event_id: str, **meta: Any) -> bytes:
    data = {"event_type": kind, "id": event_id, "occurred_at": "2026-11-20T18:30:00.148+00:00", "payload": payload}
    return msgspec.json.encode({"data": data, "meta": {"attempt": 1, **meta}})


class Carrier:
    """Calls the webhooks."""

    def __init__(self, browser: Browser, signer: Signer) -> None:
        self.browser = browser
        self.signer = signer

    async def send(
        self, body: bytes, path: str = STATUS, *, url: str | None = None, headers: dict[str, str] | None = None
    ) -> int:
        signed = self.signer.headers(body) if headers is None else headers
        target = (url or self.browser.url) + path
        async with self.browser.session.post(target, data=body, headers=signed) as response:
            await response.read()
            return response.status


@pytest.fixture
async def calls(browsers: NewBrowser, carrier: Signer) -> Carrier:
    return Carrier(browsers(), carrier)


@pytest.fixture
async def numbered(owner: Browser, bus: BusProbe, gateway: Service) -> UUID:
    """The id of a number that the gateway knows."""
    return await give_number(gateway, bus, UUID(owner.church_id))


async def give_number(gateway: Service, bus: BusProbe, church_id: UUID) -> UUID:
    number_id = new_id()
    changed = NumberChanged(
        number_id=number_id, version=1, phone=OURS, kind="long_code", status="active", is_default=True
    )
    await bus.publish(changed, church_id)
    known = statement("test.find_number", "SELECT count(*) FROM numbers WHERE number_id = $1")

    async def is_known() -> bool:
        async with gateway.parts.database.across_churches() as tx:
            return bool(await tx.fetch_value(known, number_id))

    await wait_until(is_known)
    return number_id


async def stored(gateway: Service) -> list[Any]:
    async with gateway.parts.database.across_churches() as tx:
        return [decode(row["body"]).data for row in await tx.fetch(FETCH_OUTBOX)]


async def test_a_receipt_is_on_the_bus_before_it_is_answered(calls: Carrier, bus: BusProbe, keys: Keys) -> None:
    recipient_id = new_id()
    assert await calls.send(receipt(keys, recipient_id)) == 200
    [received] = await bus.all(StatusReceived)
    [told] = received.data.receipts
    assert (told.recipient_id, told.status, told.parts, told.carrier_id) == (recipient_id, "delivered", 1, "m-1")
    assert received.church_id is None
    assert received.source == "/koinonia/gateway"


async def test_a_receipt_goes_on_in_the_trace_of_its_text(calls: Carrier, bus: BusProbe, keys: Keys) -> None:
    traces = [f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01" for _ in range(2)]
    bodies = [receipt(keys, new_id(), trace=trace) for trace in (*traces, None)]
    assert [await calls.send(body) for body in bodies] == [200] * 3
    told = [each for event in await bus.all(StatusReceived) for each in event.data.receipts]
    assert [trace_id_of(each.traceparent) for each in told] == [*map(trace_id_of, traces), None]


def trace_id_of(traceparent: str | None) -> str | None:
    return traceparent and traceparent.split("-")[1]


async def test_receipts_that_come_together_travel_together(calls: Carrier, bus: BusProbe, keys: Keys) -> None:
    wanted = {new_id() for _ in range(60)}
    assert await asyncio.gather(*(calls.send(receipt(keys, each)) for each in wanted)) == [200] * 60
    events = await bus.all(StatusReceived)
    assert {told.recipient_id for event in events for told in event.data.receipts} == wanted
    assert len(events) < 60


async def test_forged_stale_and_changed_webhooks_get_nowhere(
    calls: Carrier, bus: BusProbe, keys: Keys, numbered: UUID
) -> None:
    body = receipt(keys, new_id())
    good = calls.signer.headers(body)
    with clock.shifted(-301):
        stale = calls.signer.headers(body)
    with clock.shifted(302):
        early = calls.signer.headers(body)
    forged = Signer(b"z" * 32).headers(body)
    for headers in (
        {},
        {SIGNATURE_HEADER: good[SIGNATURE_HEADER]},
        {**good, SIGNATURE_HEADER: "nonsense"},
        {**good, TIMESTAMP_HEADER: str(int(good[TIMESTAMP_HEADER]) - 1)},
        stale,
        early,
        forged,
    ):
        assert await calls.send(body, headers=headers) == 401
    assert await calls.send(body.replace(b"delivered", b"deliveree"), headers=good) == 401
    assert await calls.send(body + b" ", headers=good) == 401
    assert await calls.send(text(), MMS, headers=good) == 401
    assert await bus.all(StatusReceived) == []
    assert await bus.all(MessageReceived) == []
    assert await calls.send(body, headers=good) == 200


async def test_both_keys_are_good_while_one_is_changed(
    start_gateway: StartGateway, calls: Carrier, carrier: Signer, keys: Keys
) -> None:
    new = Signer(b"n" * 32)
    both = await start_gateway(telnyx_public_key=Secret(f"{new.public_key}, {carrier.public_key}"))
    body = receipt(keys, new_id())
    for signer in (new, carrier):
        assert await calls.send(body, url=both.url, headers=signer.headers(body)) == 200


async def test_the_carriers_key_is_changed_under_load_without_an_error(
    *, start_gateway: StartGateway, calls: Carrier, carrier: Signer, keys: Keys, tmp_path: Path
) -> None:
    new, file = Signer(b"n" * 32), tmp_path / "key"
    file.write_text(carrier.public_key)
    looks = itertools.count()  # each a second after the last
    key = Secret(carrier.public_key, file=file, clock=lambda: float(next(looks)))
    gateway = await start_gateway(telnyx_public_key=key, rate_limit_webhook="5/1h")
    statuses: list[int] = []
    signing, done = carrier, asyncio.Event()

    async def go_on() -> None:
        while not done.is_set():
            body = receipt(keys, new_id())
            statuses.append(await calls.send(body, url=gateway.url, headers=signing.headers(body)))

    async def some_more() -> None:
        before = len(statuses)
        await wait_until(lambda: len(statuses) > before + 10, what="more receipts")

    async def replace(content: str) -> None:
        (tmp_path / "draft").write_text(content)
        os.replace(tmp_path / "draft", file)
        await some_more()

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(go_on())
        await replace("c2hvcnQ=")
        await replace(f"{new.public_key},{carrier.public_key}")
        signing = new
        await some_more()  # those under way still bore the old one's signature
        await replace(new.public_key)
        done.set()
    assert set(statuses) == {200}
    body = receipt(keys, new_id())
    assert await calls.send(body, url=gateway.url, headers=carrier.headers(body)) == 401


@pytest.mark.usefixtures("window")
async def test_bad_signatures_are_limited_and_good_ones_are_not(
    start_gateway: StartGateway, calls: Carrier, keys: Keys
) -> None:
    limited = await start_gateway(rate_limit_webhook="2/1h", rate_limit_api="2/1h")
    body = receipt(keys, new_id())
    assert [await calls.send(body, url=limited.url, headers={}) for _ in range(4)] == [401, 401, 429, 429]
    assert [await calls.send(body, url=limited.url) for _ in range(4)] == [200] * 4


async def test_an_unknown_token_is_answered_and_dropped(calls: Carrier, bus: BusProbe, keys: Keys) -> None:
    body = receipt(keys, new_id()).replace(b"?d=", b"?d=AA")
    assert await calls.send(body) == 200
    assert await calls.send(wrapped("number_order.complete", {"id": "x"}, "e")) == 200
    assert await bus.all(StatusReceived) == []
    assert await calls.send(b"{}") == 400
    assert await calls.send(b" " * 300_000) == 413


@pytest.mark.parametrize("path", [STATUS, MMS])
async def test_a_text_reaches_its_church_encrypted(
    *, calls: Carrier, bus: BusProbe, keys: Keys, owner: Browser, numbered: UUID, path: str
) -> None:
    church_id = UUID(owner.church_id)
    assert await calls.send(text("Amen"), path) == 200
    received = await bus.next(MessageReceived)
    assert (received.church_id, received.data.number_id, received.data.text) == (church_id, numbered, "Amen")
    assert keys.decrypt(received.data.phone_ciphertext, church_id, "phone") == THEIRS
    assert received.data.phone_index == keys.index(THEIRS, church_id, "phone")
    assert received.data.answered_by_carrier == "STOP"
    assert received.data.occurred_at == datetime.fromisoformat("2026-11-20T18:30:00.148+00:00")


async def test_a_text_delivered_twice_is_the_same_event(calls: Carrier, bus: BusProbe, numbered: UUID) -> None:
    for attempt in (1, 2):
        assert await calls.send(text(attempt=attempt), MMS) == 200
    assert await calls.send(text(event_id="e-2"), MMS) == 200
    first, second, other = await bus.all(MessageReceived)
    assert first.id == second.id != other.id


async def test_a_text_to_a_number_that_is_not_known_yet_is_asked_for_again_and_a_foreign_one_is_let_go(
    calls: Carrier, bus: BusProbe, gateway: Service, owner: Browser
) -> None:
    assert await calls.send(text(attempt=1), MMS) == 503
    assert await calls.send(text(attempt=3, event_id="e-9"), MMS) == 200
    await give_number(gateway, bus, UUID(owner.church_id))
    assert await calls.send(text(attempt=2), MMS) == 200
    assert len(await bus.all(MessageReceived)) == 1


async def test_texts_that_come_together_ask_once_whose_their_number_is(
    calls: Carrier,
    bus: BusProbe,
    numbered: UUID,
    count_statements: Callable[[], AbstractContextManager[StatementLog]],
) -> None:
    with count_statements() as counted:
        bodies = [text(event_id=f"e-{number}") for number in range(60)]
        assert await asyncio.gather(*(calls.send(body, MMS) for body in bodies)) == [200] * 60
    assert 1 <= counted.by_name["numbers.find_by_phone"] <= 6  # one for each second that they take
    assert len({event.id for event in await bus.all(MessageReceived)}) == 60


async def test_while_the_broker_is_away_all_is_stored_and_published_later(
    *, start_gateway: StartGateway, calls: Carrier, bus: BusProbe, keys: Keys, gateway: Service, numbered: UUID
) -> None:
    cut_off = await start_gateway(amqp_url=AWAY)
    recipient_id = new_id()
    assert await calls.send(receipt(keys, recipient_id), url=cut_off.url) == 200
    assert await calls.send(text(), MMS, url=cut_off.url) == 200
    # The other gateway's relay reaches the broker.
    received = await bus.next(StatusReceived)
    assert received.data.receipts[0].recipient_id == recipient_id
    await bus.next(MessageReceived)
    await wait_until(lambda: nothing_stored(gateway))


async def test_a_text_that_comes_again_while_the_broker_is_away_is_stored_once_and_safe(
    databases: Databases, church_id: UUID
) -> None:
    database, own = await databases("gateway"), Bus.open(AWAY, "test intake")
    intake = Intake(database, own.publisher)
    stop, amen = waiting_text(church_id), waiting_text(church_id)
    told = Receipt(recipient_id=new_id(), status="delivered", occurred_at=clock.now(), carrier_id="m")
    await asyncio.gather(*(intake.take(each) for each in (stop, amen, told, stop, stop)))  # in one batch
    await intake.take(stop)  # it lies in the outbox already
    async with database.across_churches() as tx:
        stored = [decode(row["body"]) for row in await tx.fetch(FETCH_OUTBOX)]
    assert Counter(each.id for each in stored if each.church_id) == {stop.id: 1, amen.id: 1}
    assert [each.data.receipts for each in stored if each.church_id is None] == [(told,)]
    await intake.close()
    await own.close()


def waiting_text(church_id: UUID) -> Envelope[Event]:
    """A text that a church got just now, as the door hands it on."""
    received = MessageReceived(
        number_id=new_id(),
        phone_index=b"i",
        phone_ciphertext=b"c",
        text="STOP",
        media_urls=(),
        carrier_id="m",
        occurred_at=clock.now(),
    )
    return Envelope(id=new_id(), time=clock.now(), data=received, church_id=church_id, service="gateway")


async def test_a_broker_that_says_nothing_does_not_keep_the_carrier_waiting(
    start_gateway: StartGateway, calls: Carrier, keys: Keys, gateway: Service, bus: BusProbe
) -> None:
    open_ends: list[asyncio.StreamWriter] = []

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ends.append(writer)
        await reader.read()  # until the other side goes: one that comes late is closed too
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        stuck = await start_gateway(amqp_url=f"amqp://guest:guest@127.0.0.1:{port}/", drain_seconds=0.2)
        async with asyncio.timeout(2):  # the carrier's patience
            assert await calls.send(receipt(keys, new_id()), url=stuck.url) == 200
        async with asyncio.timeout(0.7):  # the next ones do not wait for it
            assert await calls.send(receipt(keys, new_id()), url=stuck.url) == 200
        for writer in open_ends:
            writer.close()
        for _ in range(2):
            await bus.next(StatusReceived)


async def nothing_stored(gateway: Service) -> bool:
    return await stored(gateway) == []


async def test_without_broker_and_database_the_carrier_is_asked_to_try_again(
    start_gateway: StartGateway, calls: Carrier, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off = await start_gateway(amqp_url=AWAY)
    pool = cut_off.parts.database._pool

    class NoPool:
        release = staticmethod(pool.release)  # of what the gateway's own loops had in hand

        async def acquire(self, **_named: object) -> Any:
            raise ConnectionRefusedError

    with monkeypatch.context() as patch:
        patch.setattr(cut_off.parts.database, "_pool", NoPool())
        assert await calls.send(receipt(keys, new_id()), url=cut_off.url) == 503
    assert await calls.send(receipt(keys, new_id()), url=cut_off.url) == 200


async def test_a_waiting_text_is_reported_and_once_when_it_is_gone(
    databases: Databases, vhost: str, bus: BusProbe, church_id: UUID
) -> None:
    database, own = await databases("gateway"), Bus.open(vhost, "test report")
    report = BacklogReport(database, own.publisher, Life())

    async def reports() -> list[datetime | None]:
        await report.look()
        told = [each.data.oldest_inbound_at for each in await bus.all(BacklogReported)]
        bus.seen.clear()
        return told

    assert (await reports(), await reports()) == ([None], [])
    async with database.tenant(church_id) as tx:
        await outbox.add_envelopes(tx, waiting_text(church_id))
    assert await reports() == []
    with clock.shifted(5):
        [oldest] = await reports()
        assert oldest is not None
        assert abs((clock.now() - oldest).total_seconds() - 5) < 4
        assert len(await reports()) == 1
    async with database.across_churches() as tx:
        await tx.execute(DELETE_OUTBOX)
    assert (await reports(), await reports()) == ([None], [])
    await own.close()
