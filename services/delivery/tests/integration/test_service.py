"""The service, its worker, the broker and the simulated carrier together; a stand-in for the gateway takes webhooks."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from aiohttp import web
from services.delivery.tests.integration.conftest import World

from koinonia import clock
from koinonia.api import members as member_api
from koinonia.api import messages as message_api
from koinonia.api import numbers as number_api
from koinonia.carrier.simulated import Fault, SimulatedCarrier
from koinonia.carrier.webhooks import parse
from koinonia.db import statement
from koinonia.events.audit import ActionRecorded
from koinonia.events.carrier import MessageReceived, Receipt, StatusReceived
from koinonia.events.compliance import SuppressionAdded
from koinonia.events.delivery import NumberChanged, RecipientsUpdated
from koinonia.events.gateway import ChurchChanged
from koinonia.events.messaging import MessageAccepted
from koinonia.ids import new_id
from koinonia.security.keys import Keys
from koinonia.security.receipts import read_receipt_token
from koinonia.service import Running
from koinonia.testing.services import BusProbe, Caller, StartService
from koinonia_delivery import app, worker
from koinonia_delivery.settings import DeliverySettings, WorkerSettings

WaitUntil = Callable[..., Awaitable[object]]

HOLDS = statement("test.holds", "SELECT count(*) FROM holds")


class Platform:
    """Delivery at work for one church."""

    def __init__(self, world: World, service: Running[Any], carrier: SimulatedCarrier, bus: BusProbe) -> None:
        self.world = world
        self.service = service
        self.carrier = carrier
        self.bus = bus
        self.number: NumberChanged

    async def counts(self, message_id: UUID) -> dict[str, int]:
        """The message's counters, as messaging adds them up."""
        total: dict[str, int] = {}
        for envelope in await self.bus.all(RecipientsUpdated):
            if envelope.data.source_id == message_id:
                for status, count in envelope.data.changes.items():
                    total[status] = total.get(status, 0) + count
        return {status: count for status, count in total.items() if count}

    async def metered(self, message_id: UUID) -> int:
        events = await self.bus.all(RecipientsUpdated)
        return sum(each.data.accepted_segments for each in events if each.data.source_id == message_id)


@pytest.fixture
async def door(bus: BusProbe, keys: Keys) -> AsyncIterator[str]:
    """Takes the carrier's webhooks and publishes them, as the gateway does."""

    async def take(request: web.Request) -> web.Response:
        event = parse(await request.read())
        recipient_id = read_receipt_token(keys, event.token or "")
        if recipient_id is not None and event.message is not None and event.occurred_at is not None:
            receipt = Receipt(
                recipient_id=recipient_id,
                status=event.status,
                occurred_at=event.occurred_at,
                carrier_id=event.message.id,
                error_code=event.error.code if event.error else None,
            )
            await bus.publish(StatusReceived(receipts=(receipt,)), None)
        return web.Response()

    application = web.Application()
    application.router.add_post("/{rest:.*}", take)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
async def platform(start_service: StartService, new_world: World, bus: BusProbe, door: str) -> AsyncIterator[Platform]:
    async with SimulatedCarrier() as carrier:
        settings = {
            "public_url": door,
            "telnyx_api_url": carrier.url,
            "telnyx_api_key": "key",
            "unknown_outcome_wait": 0.2,
            "long_code_rate": 10_000.0,
        }
        service = await start_service("delivery", app.build, DeliverySettings, **settings)
        await start_service("delivery", worker.build, WorkerSettings, **settings)
        platform = Platform(new_world, service, carrier, bus)
        church_id = new_world.church_id
        church = ChurchChanged(church_id=church_id, version=1, name="Grace", timezone="UTC", status="active")
        await bus.publish(church, church_id)
        platform.number = (await bus.next(NumberChanged)).data
        yield platform


async def test_a_broadcast_with_receipts_of_every_kind_adds_up(platform: Platform, wait_until: WaitUntil) -> None:
    world, carrier, bus = platform.world, platform.carrier, platform.bus
    carrier.order(
        Fault(kind="receipt_doubled", share=0.3),
        Fault(kind="receipt_early", share=0.2),
        Fault(kind="receipt_reordered", share=0.3),
        Fault(kind="answer_lost", share=0.05),
        Fault(kind="final_status", next=7, code="40008", title="Undeliverable"),
    )
    chunk = world.chunk([world.person(number) for number in range(200)])
    envelope = await bus.publish(chunk, world.church_id)
    await bus.publish_envelope(envelope)

    async def all_closed() -> bool:
        statuses = await world.statuses(chunk.message_id)
        return len(statuses) == 200 and set(statuses) <= {"delivered", "undelivered"}

    await wait_until(all_closed, seconds=60)

    async def counted() -> bool:
        return await platform.counts(chunk.message_id) == {"delivered": 193, "undelivered": 7}

    await wait_until(counted)
    assert await platform.metered(chunk.message_id) == 200
    assert len(carrier.record.texts) == 200
    assert not carrier.record.duplicates


async def test_a_stop_holds_until_compliance_has_answered(platform: Platform, wait_until: WaitUntil) -> None:
    world, bus = platform.world, platform.bus
    person = world.person(0)
    stop = MessageReceived(
        number_id=platform.number.number_id,
        phone_index=person.phone_index,
        phone_ciphertext=person.phone_ciphertext,
        text="STOP",
        media_urls=(),
        carrier_id="in1",
        occurred_at=clock.now(),
    )
    inbound = await bus.publish(stop, world.church_id)

    async def held() -> bool:
        async with world.database.across_churches() as tx:
            return bool(await tx.fetch_value(HOLDS))

    await wait_until(held)
    chunk = world.chunk([world.person(0), world.person(1)])
    await bus.publish(chunk, world.church_id)

    async def other_sent() -> bool:
        return sorted(await world.statuses(chunk.message_id)) == ["delivered", "queued"]

    await wait_until(other_sent)
    answer = SuppressionAdded(
        phone_index=person.phone_index,
        version=1,
        occurred_at=stop.occurred_at,
        reason="stop",
        inbound_event_id=inbound.id,
    )
    await bus.publish(answer, world.church_id)

    async def suppressed() -> bool:
        return sorted(await world.statuses(chunk.message_id)) == ["delivered", "suppressed"]

    await wait_until(suppressed)
    assert [text.recipient for text in platform.carrier.record.texts] == ["+12055560001"]


async def test_a_church_sees_its_recipients_and_decides_on_unknown_ones(
    platform: Platform, caller: Caller, wait_until: WaitUntil
) -> None:
    world = platform.world
    platform.carrier.order(Fault(kind="receipt_dropped"), Fault(kind="answer_error", status=502, share=1.0))
    chunk = world.chunk([world.person(number) for number in range(3)])
    await platform.bus.publish(chunk, world.church_id)

    async def listed(status: str, church_id: UUID | None = None, **query: str) -> tuple[int, Any]:
        return await caller(
            platform.service,
            message_api.LIST_RECIPIENTS,
            church_id=church_id or world.church_id,
            ids={"id": chunk.message_id},
            query={"status": status, **query},
        )

    async def unknown() -> bool:
        status, answer = await listed("unknown")
        return status == 200 and len(answer["data"]) == 3

    await wait_until(unknown)
    _, first_page = await listed("unknown", limit="2")
    _, second_page = await listed("unknown", limit="2", cursor=first_page["nextCursor"])
    phones = [each["phone"] for each in first_page["data"] + second_page["data"]]
    assert sorted(phones) == [f"+1205556000{number}" for number in range(3)]
    assert (await listed("unknown", church_id=new_id()))[0] == 404

    async def resolve(recipient_id: str, action: str, key: str) -> tuple[int, Any]:
        return await caller(
            platform.service,
            message_api.RESOLVE_RECIPIENT,
            church_id=world.church_id,
            ids={"id": chunk.message_id, "recipientId": UUID(recipient_id)},
            body={"action": action},
            headers={"Idempotency-Key": key},
        )

    target = second_page["data"][0]["id"]

    async def closed() -> bool:
        status, answer = await resolve(target, "close", "k1")
        assert status in (200, 409), answer  # 409 while it is being sent again
        return status == 200 and answer["status"] == "unconfirmed"

    await wait_until(closed)
    platform.carrier.faults.clear()
    before = len(platform.carrier.record.to(second_page["data"][0]["phone"]))
    assert (await resolve(target, "resend", "k2"))[0] == 200
    await wait_until(lambda: len(platform.carrier.record.to(second_page["data"][0]["phone"])) == before + 1)
    actions = [each.data.action for each in await platform.bus.all(ActionRecorded)]
    assert actions == ["recipient.close", "recipient.resend"]


async def test_a_church_sees_its_numbers(platform: Platform, caller: Caller) -> None:
    async def numbers(church_id: UUID) -> Any:
        return await caller(platform.service, number_api.LIST, church_id=church_id)

    status, answer = await numbers(platform.world.church_id)
    assert status == 200
    (number,) = answer["data"]
    assert (number["phoneNumber"], number["status"], number["isDefault"]) == (platform.number.phone, "active", True)
    assert (await numbers(new_id()))[1]["data"] == []


async def test_a_person_pauses_a_number_and_resumes_it(platform: Platform, caller: Caller) -> None:
    async def ask(endpoint: Any, number_id: UUID, **values: Any) -> tuple[int, Any]:
        values = {"church_id": platform.world.church_id, **values}
        return await caller(platform.service, endpoint, ids={"id": number_id}, **values)

    number_id = platform.number.number_id
    key = {"Idempotency-Key": "k"}
    for headers in ({}, key, key):
        status, answer = await ask(number_api.PAUSE, number_id, headers=headers)
        assert (status, answer["status"], answer["holdReason"]) == (200, "held", "This number is paused.")
    changed = await platform.bus.next(NumberChanged, lambda each: each.status == "held")
    assert (changed.data.hold_reason, changed.data.version) == ("paused", platform.number.version + 2)
    status, answer = await ask(number_api.RESUME, number_id)
    assert (status, answer["status"], answer["holdReason"]) == (200, "active", None)
    await platform.bus.next(NumberChanged, lambda each: each.status == "active" and each.version > 1)
    actions = [each.data.action for each in await platform.bus.all(ActionRecorded)]
    assert actions == ["number.paused", "number.resumed"]
    assert (await ask(number_api.PAUSE, number_id, church_id=new_id()))[0] == 404
    assert (await ask(number_api.PAUSE, new_id()))[0] == 404
    assert (await ask(number_api.PAUSE, number_id, role="sender"))[0] == 403


async def test_it_says_that_it_is_ready(platform: Platform) -> None:
    async with aiohttp.ClientSession() as session, session.get(f"{platform.service.url}/ready") as response:
        assert response.status == 200


async def test_the_service_answers_tests_by_itself_though_the_broker_redelivers(
    platform: Platform,
    caller: Caller,
    wait_until: WaitUntil,
) -> None:
    world, bus = platform.world, platform.bus
    test = world.chunk([world.person(number) for number in range(120)], content="Test", test=True)
    live = world.chunk([world.person(number) for number in range(60)], content="Live")
    accepted = MessageAccepted(message_id=test.message_id, recipient_count=120, segment_bound=120, test=True)
    await bus.publish(accepted, world.church_id)
    for _ in range(3):
        first = await bus.publish(test, world.church_id)
        await bus.publish_envelope(first)
        await bus.publish(live, world.church_id)

    async def all_told() -> bool:
        found = [await platform.counts(each.message_id) for each in (test, live)]
        return found == [{"delivered": 120}, {"delivered": 60}]

    await wait_until(all_told, seconds=60)
    assert [each.text for each in platform.carrier.record.texts] == ["Live"] * 60
    assert (await platform.metered(test.message_id), await platform.metered(live.message_id)) == (0, 60)
    marks = {each.data.test for each in await bus.all(RecipientsUpdated) if each.data.source_id == test.message_id}
    assert marks == {True}
    status, page = await caller(
        platform.service,
        message_api.LIST_RECIPIENTS,
        church_id=world.church_id,
        ids={"id": test.message_id},
        query={"status": "delivered", "limit": "1"},
        test=True,
    )
    assert (status, len(page["data"])) == (200, 1)


async def test_a_test_key_changes_nothing_here(platform: Platform, caller: Caller) -> None:
    refused = [
        (message_api.RESOLVE_RECIPIENT, {"id": new_id(), "recipientId": new_id()}, {"action": "close"}),
        (number_api.PAUSE, {"id": platform.number.number_id}, None),
    ]
    for endpoint, ids, body in refused:
        status, answer = await caller(
            platform.service, endpoint, church_id=platform.world.church_id, ids=ids, body=body, test=True
        )
        assert (status, answer["error"]["code"]) == (403, "FORBIDDEN")
    status, _ = await caller(
        platform.service, member_api.LIST_MESSAGES, church_id=platform.world.church_id, ids={"id": new_id()}, test=True
    )
    assert status == 404  # read it may: there is no such member
