"""How each call of our client ends, over real connections to the simulated carrier."""

from __future__ import annotations

import asyncio
import os
import socket
import traceback
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest

from koinonia import clock
from koinonia.carrier.contract import (
    CarrierError,
    CarrierStatus,
    OutboundText,
    OutcomeUnknown,
    Refused,
    Rejected,
)
from koinonia.carrier.simulated import Fault, Settings, SimulatedCarrier
from koinonia.carrier.telnyx import TelnyxCarrier
from koinonia.secret import Secret
from koinonia.testing.fixtures import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from shared.tests.integration.carrier.conftest import Hook

CHURCH = "+12055550100"
PERSON = "+12055550111"
SECRET = "very private"


async def test_an_accepted_text_returns_the_carriers_id_and_parts(
    simulated: SimulatedCarrier, client: TelnyxCarrier, make_text: Callable[..., OutboundText]
) -> None:
    accepted = await client.send(make_text(text="a" * 161))
    assert accepted.parts == 2
    assert [text.id for text in simulated.record.texts] == [accepted.carrier_id]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="reset", next=1),
        Fault(kind="answer_lost", next=1),
        Fault(kind="answer_slow", seconds=0.8, next=1),
        Fault(kind="answer_error", status=502, next=1),
        Fault(kind="answer_garbled", next=1),
        Fault(kind="error", status=500, code="10007", title="Unexpected error", next=1),
        Fault(kind="error", status=503, next=1),
        Fault(kind="error", status=404, next=1),
        Fault(kind="error", status=408, code="10008", next=1),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
async def test_an_answer_that_is_missing_or_not_the_carriers_is_unknown(
    simulated: SimulatedCarrier, client: TelnyxCarrier, make_text: Callable[..., OutboundText], fault: Fault
) -> None:
    simulated.order(fault)
    with pytest.raises(OutcomeUnknown):
        await client.send(make_text())
    assert simulated.faults.orders[0].struck == 1
    assert len(simulated.record.texts) == (1 if fault.kind.startswith("answer") else 0)


async def test_the_same_text_under_its_key_gets_the_first_result_after_a_lost_answer(
    simulated: SimulatedCarrier, client: TelnyxCarrier, make_text: Callable[..., OutboundText]
) -> None:
    simulated.order(Fault(kind="answer_lost", next=1))
    text = make_text(key="recipient-1")
    with pytest.raises(OutcomeUnknown):
        await client.send(text)
    again = await client.send(text)
    assert again.carrier_id == simulated.record.texts[0].id
    assert simulated.record.summary().accepted == 1
    assert simulated.record.summary().replayed == 1


async def test_without_keys_at_the_carrier_a_repeat_is_a_duplicate_and_the_record_counts_it(
    simulated: SimulatedCarrier, client: TelnyxCarrier, make_text: Callable[..., OutboundText]
) -> None:
    simulated.behaviour.idempotency = False
    text = make_text(key="recipient-1")
    first, second = await client.send(text), await client.send(text)
    assert first.carrier_id != second.carrier_id
    assert simulated.record.summary().duplicates == 1


async def test_while_the_first_request_runs_its_repeat_is_unknown_and_later_replayed(
    simulated: SimulatedCarrier, client: TelnyxCarrier, make_text: Callable[..., OutboundText]
) -> None:
    simulated.order(Fault(kind="answer_slow", seconds=0.8, next=1))
    text = make_text(key="recipient-1")
    with pytest.raises(OutcomeUnknown, match="no answer in time"):
        await client.send(text)
    with pytest.raises(OutcomeUnknown, match="409"):
        await client.send(text)
    async with asyncio.timeout(10):
        while True:
            try:
                accepted = await client.send(text)
                break
            except OutcomeUnknown:
                continue
    assert [recorded.id for recorded in simulated.record.texts] == [accepted.carrier_id]


async def test_a_key_with_another_body_is_unknown_since_its_first_use_may_have_sent(
    simulated: SimulatedCarrier, client: TelnyxCarrier, make_text: Callable[..., OutboundText]
) -> None:
    await client.send(make_text(key="recipient-1"))
    with pytest.raises(OutcomeUnknown, match="422"):
        await client.send(make_text(key="recipient-1", text="another"))
    assert simulated.record.summary().accepted == 1


async def test_a_connection_that_nobody_takes_is_refused(make_text: Callable[..., OutboundText]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with TelnyxCarrier(f"http://127.0.0.1:{port}", "KEY") as client:
        with pytest.raises(Refused) as caught:
            await client.send(make_text())
    assert caught.value.scope == "call"


async def test_no_free_connection_in_time_is_refused_and_nothing_was_sent(
    simulated: SimulatedCarrier, make_text: Callable[..., OutboundText], hook: Hook
) -> None:
    simulated.order(Fault(kind="answer_slow", seconds=0.5, next=1))
    async with TelnyxCarrier(simulated.url, "KEY", concurrency=1, connect_seconds=0.1) as client:
        first = asyncio.create_task(client.send(make_text()))
        await hook.received(1)  # the first text is accepted, and its connection still waits for the answer
        with pytest.raises(Refused):
            await client.send(make_text())
        await first
    assert len(simulated.record.texts) == 1


async def test_a_total_limit_that_ends_in_the_pool_is_refused_and_one_after_writing_is_unknown(
    simulated: SimulatedCarrier, make_text: Callable[..., OutboundText]
) -> None:
    simulated.order(Fault(kind="answer_slow", seconds=1.0, next=1))
    async with TelnyxCarrier(simulated.url, "KEY", concurrency=1, total_seconds=0.3) as client:
        first, second = await asyncio.gather(client.send(make_text()), client.send(make_text()), return_exceptions=True)
    assert isinstance(first, OutcomeUnknown)
    assert isinstance(second, Refused)
    assert len(simulated.record.texts) == 1


async def test_a_request_cut_off_half_way_is_unknown(make_text: Callable[..., OutboundText]) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, TelnyxCarrier(f"http://127.0.0.1:{port}", "KEY") as client:
        with pytest.raises(OutcomeUnknown):
            await client.send(make_text())


async def test_a_redirect_is_not_followed(make_text: Callable[..., OutboundText]) -> None:
    asked: list[bytes] = []

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 307 Elsewhere\r\nLocation: /v2/messages\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(redirect, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, TelnyxCarrier(f"http://127.0.0.1:{port}", "KEY") as client:
        with pytest.raises(OutcomeUnknown, match="307"):
            await client.send(make_text())
    assert len(asked) == 1


async def test_a_rate_limit_is_refused_with_its_waiting_time(
    simulated: SimulatedCarrier, client: TelnyxCarrier, make_text: Callable[..., OutboundText]
) -> None:
    simulated.order(Fault(kind="rate_limited", seconds=7, next=1))
    with pytest.raises(Refused) as caught:
        await client.send(make_text())
    assert (caught.value.retry_after_seconds, caught.value.scope) == (7, "call")
    await client.send(make_text())


@pytest.mark.parametrize("code", [None, "49999", "40318"])
async def test_a_429_is_refused_whatever_its_body_says(
    simulated: SimulatedCarrier, client: TelnyxCarrier, make_text: Callable[..., OutboundText], code: str | None
) -> None:
    simulated.order(Fault(kind="error", status=429, code=code, next=1))
    with pytest.raises(Refused) as caught:
        await client.send(make_text())
    assert caught.value.retry_after_seconds == (60 if code == "40318" else None)


@pytest.mark.parametrize(
    "error",
    [(403, "10010", "account"), (402, "10001", "account"), (403, "40312", "church"), (400, "40329", "number")],
)
async def test_what_holds_for_more_than_a_call_says_so(
    simulated: SimulatedCarrier,
    client: TelnyxCarrier,
    make_text: Callable[..., OutboundText],
    error: tuple[int, str, str],
) -> None:
    status, code, scope = error
    simulated.order(Fault(kind="error", status=status, code=code, next=1))
    with pytest.raises(Refused) as caught:
        await client.send(make_text())
    assert caught.value.scope == scope


async def test_a_wrong_key_holds_the_account(make_text: Callable[..., OutboundText]) -> None:
    async with (
        SimulatedCarrier(Settings(api_key="RIGHT")) as simulated,
        TelnyxCarrier(simulated.url, "WRONG") as client,
    ):
        with pytest.raises(Refused) as caught:
            await client.send(make_text())
    assert (caught.value.carrier_code, caught.value.scope) == ("10009", "account")


async def test_the_key_changes_under_load_without_an_error(
    simulated: SimulatedCarrier, make_text: Callable[..., OutboundText], tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_text("OLD")
    simulated.accept_keys("OLD")
    secret = Secret("OLD", file=file)
    sent, done = 0, asyncio.Event()

    async def go_on(client: TelnyxCarrier) -> None:
        nonlocal sent
        while not done.is_set():
            await client.send(make_text())
            await client.find_orders("none")
            sent += 1

    async def some_more() -> None:
        before = sent
        await wait_until(lambda: sent >= before + 20, what="more texts")

    async with TelnyxCarrier(simulated.url, secret, concurrency=4) as client, asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(go_on(client))
        await some_more()
        simulated.accept_keys("OLD", "NEW")
        for content in ("", "broken\nin two", "NEW\n"):
            (tmp_path / "draft").write_text(content)
            os.replace(tmp_path / "draft", file)
            await asyncio.sleep(1.2)
            await some_more()
        simulated.accept_keys("NEW")
        await some_more()
        done.set()
    assert len(simulated.record.texts) == sent


async def test_a_sender_that_is_not_on_the_profile_holds_the_number(
    client: TelnyxCarrier, make_text: Callable[..., OutboundText]
) -> None:
    text = msgspec.structs.replace(make_text(), sender="+12055559999")
    with pytest.raises(Refused) as caught:
        await client.send(text)
    assert (caught.value.carrier_code, caught.value.scope) == ("40305", "number")


@pytest.mark.parametrize(
    ("recipient", "written", "code"),
    [("+1205", "hi", "40310"), ("2055550111", "hi", "40310"), (PERSON, "", "40316"), (PERSON, "Ж" * 671, "40302")],
)
async def test_what_can_never_be_sent_is_rejected(
    client: TelnyxCarrier, make_text: Callable[..., OutboundText], recipient: str, written: str, code: str
) -> None:
    with pytest.raises(Rejected) as caught:
        await client.send(make_text(recipient=recipient, text=written))
    assert caught.value.carrier_code == code


async def test_a_person_who_stopped_is_rejected_as_opted_out(
    simulated: SimulatedCarrier, client: TelnyxCarrier, make_text: Callable[..., OutboundText]
) -> None:
    simulated.inbound(PERSON, CHURCH, "STOP")
    with pytest.raises(Rejected) as caught:
        await client.send(make_text())
    assert caught.value.opted_out


async def test_no_error_carries_a_number_or_a_text(
    simulated: SimulatedCarrier, client: TelnyxCarrier, make_text: Callable[..., OutboundText]
) -> None:
    caught: list[CarrierError] = []
    for fault in (
        Fault(kind="reset", next=1),
        Fault(kind="answer_lost", next=1),
        Fault(kind="answer_garbled", next=1),
        Fault(kind="answer_error", next=1),
        Fault(kind="error", status=400, code="40310", next=1),
    ):
        simulated.order(fault)
        with pytest.raises(CarrierError) as error:
            await client.send(make_text(text=SECRET))
        caught.append(error.value)
    await simulated.close()
    with pytest.raises(CarrierError) as error:
        await client.find_records(sender=CHURCH, recipient=PERSON, since=clock.now())
    caught.append(error.value)
    for shown in ("".join(traceback.format_exception(one, chain=True)) + repr(vars(one)) for one in caught):
        assert "2055550" not in shown
        assert SECRET not in shown


async def test_the_trace_is_passed_on_and_is_no_part_of_the_body() -> None:
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n{"data": {"id": "m1"}}')
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with server, TelnyxCarrier(f"http://127.0.0.1:{port}/", "KEY") as client:
        text = OutboundText(recipient=PERSON, sender=CHURCH, text="hi", traceparent=trace, idempotency_key="k-1")
        assert (await client.send(text)).carrier_id == "m1"
    assert heads[0].startswith(b"POST /v2/messages HTTP/1.1\r\n")
    assert f"traceparent: {trace}".encode() in heads[0]
    assert b"Idempotency-Key: k-1" in heads[0]
    assert b"Authorization: Bearer KEY" in heads[0]


async def test_a_text_can_be_looked_up_by_its_id(
    simulated: SimulatedCarrier, client: TelnyxCarrier, make_text: Callable[..., OutboundText], hook: Hook
) -> None:
    simulated.order(Fault(kind="final_status", final_status="delivery_failed", code="40006"))
    text = make_text()
    accepted = await client.send(text)
    await hook.received(2)
    state = await client.look_up(accepted.carrier_id)
    assert state is not None
    assert (state.status, state.error_code) == (CarrierStatus.DELIVERY_FAILED, "40006")
    assert state.webhook_url == text.webhook_url
    assert await client.look_up("no-such-id") is None


async def test_records_show_what_was_accepted_with_its_webhook_url_but_nothing_queued(
    simulated: SimulatedCarrier, client: TelnyxCarrier, make_text: Callable[..., OutboundText], hook: Hook
) -> None:
    since = clock.now() - timedelta(minutes=1)
    texts = [make_text() for _ in range(25)]
    for text in texts:
        await client.send(text)
    await client.send(make_text(recipient="+12055550112"))
    await hook.received(52)
    simulated.behaviour.receipt_seconds = 60
    await client.send(make_text())
    found = await client.find_records(sender=CHURCH, recipient=PERSON, since=since)
    assert [record.webhook_url for record in found] == [text.webhook_url for text in texts]
    assert {record.status for record in found} == {CarrierStatus.DELIVERED}
    assert await client.find_records(sender=CHURCH, recipient=PERSON, since=clock.now()) == []


async def test_a_look_up_that_fails_is_refused_since_asking_again_does_no_harm(simulated: SimulatedCarrier) -> None:
    async with TelnyxCarrier(simulated.url, "KEY") as client:
        await simulated.close()
        with pytest.raises(Refused):
            await client.look_up("m-1")


async def test_a_number_is_searched_ordered_found_by_its_reference_and_put_on_a_profile(
    simulated: SimulatedCarrier, client: TelnyxCarrier, make_text: Callable[..., OutboundText], hook: Hook
) -> None:
    profile = await client.create_messaging_profile("Grace Church", webhook_url=hook.url)
    other = await client.create_messaging_profile("Grace Church North", webhook_url=hook.url)
    assert await client.find_messaging_profiles("Grace Church") == [profile]
    offered = await client.search_numbers(area_code="312", limit=3)
    assert [number.phone[:5] for number in offered] == ["+1312"] * 3
    assert "sms" in offered[0].features
    order = await client.order_number(offered[0].phone, messaging_profile_id=profile.profile_id, reference="intent-1")
    assert order.status == "pending"
    done = await client.look_up_order(order.order_id)
    assert done is not None
    assert done.status == "success"
    assert await client.find_orders("intent-1") == [done]
    assert await client.find_orders("intent-2") == []
    assert await client.look_up_order("no-such-order") is None
    await client.assign_number(offered[0].phone, messaging_profile_id=other.profile_id)
    text = msgspec.structs.replace(make_text(), sender=offered[0].phone, messaging_profile_id=other.profile_id)
    await client.send(text)
    assert simulated.record.texts[0].profile_id == other.profile_id


async def test_a_number_that_is_not_ours_cannot_be_assigned_nor_one_ordered_that_was_not_offered(
    client: TelnyxCarrier,
) -> None:
    profile = await client.create_messaging_profile("Grace Church", webhook_url="http://127.0.0.1:9/hook")
    with pytest.raises(Rejected):
        await client.assign_number("+13125559999", messaging_profile_id=profile.profile_id)
    with pytest.raises(Rejected):
        await client.order_number("+13125559999", messaging_profile_id=profile.profile_id, reference="intent-3")
