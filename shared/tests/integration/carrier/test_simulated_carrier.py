"""The simulated carrier's wire: webhooks, faults, STOP, records, and its control door."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from koinonia import clock
from koinonia.carrier.contract import CarrierStatus, OutboundText
from koinonia.carrier.simulated import Fault, SimulatedCarrier
from koinonia.carrier.telnyx import TelnyxCarrier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from shared.tests.integration.carrier.conftest import Hook

CHURCH = "+12055550100"
PERSON = "+12055550111"


@pytest.fixture
async def http(simulated: SimulatedCarrier) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(simulated.url, headers={"Authorization": "Bearer KEY"}) as session:
        yield session


async def post(http: aiohttp.ClientSession, path: str, body: object, **headers: str) -> tuple[int, Any]:
    async with http.post(path, json=body, headers=headers) as answer:
        return answer.status, await answer.json()


async def get(http: aiohttp.ClientSession, path: str) -> Any:
    async with http.get(path) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def test_each_text_is_told_by_two_signed_webhooks_in_order_with_its_token(
    simulated: SimulatedCarrier, client: TelnyxCarrier, make_text: Callable[..., OutboundText], hook: Hook
) -> None:
    accepted = await client.send(make_text())
    sent, finalized = await hook.received(2)
    assert hook.types == ["message.sent", "message.finalized"]
    assert [event.status for event in (sent, finalized)] == [CarrierStatus.SENT, CarrierStatus.DELIVERED]
    assert sent.token == finalized.token == simulated.record.texts[0].token == "token-1"
    assert sent.message is not None
    assert sent.message.id == accepted.carrier_id
    assert sent.id != finalized.id
    assert hook.paths == ["/hook?d=token-1"] * 2
    assert hook.headers[0]["User-Agent"] == "telnyx-webhooks"


async def test_a_webhook_that_fails_comes_again_signed_anew_with_the_same_id(
    client: TelnyxCarrier, make_text: Callable[..., OutboundText], hook: Hook
) -> None:
    hook.answers = [503, 302]
    await client.send(make_text())
    events = await hook.received(4)
    assert sorted(hook.types) == ["message.finalized"] * 2 + ["message.sent"] * 2
    assert {event.id for event in events[:2]} == {event.id for event in events[2:]}
    assert [event.attempt for event in events] == [1, 1, 2, 2]


async def test_the_record_tells_when_the_last_receipt_was_first_sent_and_when_it_was_answered(
    simulated: SimulatedCarrier, client: TelnyxCarrier, make_text: Callable[..., OutboundText], hook: Hook
) -> None:
    hook.answers = [200, 503, 200]  # to message.sent, and twice to message.finalized
    began_at = clock.now()
    await client.send(make_text())
    await hook.received(3)
    await simulated.settled()
    (text,) = simulated.record.texts
    assert text.told_at is not None
    assert text.heard_at is not None
    backoff = timedelta(seconds=simulated.behaviour.webhook_backoff_seconds)
    assert began_at <= text.told_at <= text.heard_at - backoff


async def test_after_three_attempts_the_failover_url_is_called_three_times_and_then_it_is_given_up(
    simulated: SimulatedCarrier, http: aiohttp.ClientSession, hook: Hook
) -> None:
    hook.answers = [500] * 100
    simulated.order(Fault(kind="receipt_dropped", event="sent"))
    body = {
        "from": CHURCH,
        "to": PERSON,
        "text": "hi",
        "webhook_url": f"{hook.url}/first?d=t",
        "webhook_failover_url": f"{hook.url}/second?d=t",
    }
    assert (await post(http, "/v2/messages", body))[0] == 200
    await hook.received(6)
    await simulated.settled()
    assert hook.paths == ["/hook/first?d=t"] * 3 + ["/hook/second?d=t"] * 3
    record = await get(http, "/simulator/record")
    assert (record["webhooks"]["failed_attempts"], record["webhooks"]["gave_up"]) == (6, 1)


async def test_a_webhook_not_answered_in_time_counts_as_failed(
    simulated: SimulatedCarrier, client: TelnyxCarrier, make_text: Callable[..., OutboundText], hook: Hook
) -> None:
    simulated.behaviour.webhook_timeout_seconds = 0.05
    simulated.order(Fault(kind="receipt_dropped", event="finalized"))
    hook.delay_seconds = 0.5
    await client.send(make_text())
    await hook.received(1)
    hook.delay_seconds = 0.0
    events = await hook.received(2)
    assert (events[0].id, events[0].attempt) == (events[1].id, 1)
    assert events[1].attempt == 2


async def test_without_an_own_url_the_profiles_is_called(http: aiohttp.ClientSession, hook: Hook) -> None:
    await post(http, "/v2/messages", {"from": CHURCH, "to": PERSON, "text": "hi"})
    await hook.received(2)
    assert hook.paths == ["/hook/inbound"] * 2


@pytest.mark.parametrize("event", ["sent", "finalized"])
async def test_a_dropped_receipt_never_comes_though_the_text_is_delivered(
    simulated: SimulatedCarrier,
    client: TelnyxCarrier,
    make_text: Callable[..., OutboundText],
    hook: Hook,
    event: Any,
) -> None:
    simulated.order(Fault(kind="receipt_dropped", event=event, next=1))
    accepted = await client.send(make_text())
    await hook.received(1)
    await simulated.settled()
    assert hook.types == [{"sent": "message.finalized", "finalized": "message.sent"}[event]]
    state = await client.look_up(accepted.carrier_id)
    assert state is not None
    assert state.status is CarrierStatus.DELIVERED


async def test_a_doubled_receipt_comes_twice_with_one_id(
    simulated: SimulatedCarrier, client: TelnyxCarrier, make_text: Callable[..., OutboundText], hook: Hook
) -> None:
    simulated.order(Fault(kind="receipt_doubled", event="finalized", next=1))
    await client.send(make_text())
    events = await hook.received(3)
    assert hook.types == ["message.sent", "message.finalized", "message.finalized"]
    assert events[1].id == events[2].id


async def test_early_receipts_come_before_the_answer_to_the_post(
    simulated: SimulatedCarrier, client: TelnyxCarrier, make_text: Callable[..., OutboundText], hook: Hook
) -> None:
    simulated.order(Fault(kind="receipt_early", next=1), Fault(kind="answer_lost", next=1))
    sending = asyncio.create_task(client.send(make_text()))
    hook.delay_seconds = 0.05
    await hook.received(2)
    assert not sending.done()
    await asyncio.wait([sending])
    assert sending.exception() is not None


async def test_late_receipts_wait_for_their_time_or_until_they_are_called(
    simulated: SimulatedCarrier, client: TelnyxCarrier, make_text: Callable[..., OutboundText], hook: Hook
) -> None:
    simulated.order(Fault(kind="receipt_late", event="sent", next=1, seconds=0.05))
    simulated.order(Fault(kind="receipt_late", event="finalized", next=1))
    await client.send(make_text())
    await hook.received(1)
    await simulated.settled()
    assert hook.types == ["message.sent"]
    assert simulated.deliver_pending() == 1
    await hook.received(2)
    assert hook.types == ["message.sent", "message.finalized"]


async def test_reordered_receipts_come_the_last_one_first(
    simulated: SimulatedCarrier, client: TelnyxCarrier, make_text: Callable[..., OutboundText], hook: Hook
) -> None:
    simulated.order(Fault(kind="receipt_reordered", next=1))
    await client.send(make_text())
    events = await hook.received(2)
    assert hook.types == ["message.finalized", "message.sent"]
    assert events[0].occurred_at is not None
    assert events[1].occurred_at is not None
    assert events[0].occurred_at > events[1].occurred_at


@pytest.mark.parametrize(
    "end",
    [
        ("delivery_failed", "40008", ["message.sent", "message.finalized"]),
        ("sending_failed", "40001", ["message.finalized"]),
        ("delivery_unconfirmed", None, ["message.sent", "message.finalized"]),
    ],
)
async def test_a_text_can_end_otherwise(
    simulated: SimulatedCarrier,
    client: TelnyxCarrier,
    make_text: Callable[..., OutboundText],
    hook: Hook,
    end: tuple[Any, str | None, list[str]],
) -> None:
    final, code, types = end
    simulated.order(Fault(kind="final_status", final_status=final, next=1))
    await client.send(make_text())
    events = await hook.received(len(types))
    assert hook.types == types
    assert events[-1].status == final
    assert (events[-1].error.code if events[-1].error else None) == code


async def test_over_its_rate_a_text_is_queued_and_told_later(
    simulated: SimulatedCarrier, client: TelnyxCarrier, make_text: Callable[..., OutboundText], hook: Hook
) -> None:
    simulated.behaviour.rate = 5.0
    first, second = await client.send(make_text()), await client.send(make_text())
    assert first.wait_seconds == 0.0
    assert 0.0 < second.wait_seconds <= 0.2
    state = await client.look_up(second.carrier_id)
    assert state is not None
    assert state.status is CarrierStatus.QUEUED
    await hook.received(4)


async def test_latency_and_slow_answers_delay_the_answer(
    simulated: SimulatedCarrier, client: TelnyxCarrier, make_text: Callable[..., OutboundText]
) -> None:
    loop = asyncio.get_running_loop()
    simulated.order(Fault(kind="latency", seconds=0.1, next=1), Fault(kind="answer_slow", seconds=0.1, next=1))
    began = loop.time()
    await client.send(make_text())
    assert loop.time() - began >= 0.2


async def test_stop_blocks_the_person_on_this_profile_only_until_start(
    simulated: SimulatedCarrier, client: TelnyxCarrier, make_text: Callable[..., OutboundText], hook: Hook
) -> None:
    other = "+12055550199"
    simulated.add_number(other, webhook_url=hook.url)
    simulated.inbound(PERSON, CHURCH, "  Stop all ")
    events = await hook.received(1)
    message = events[0].message
    assert message is not None
    assert message.sender is not None
    assert (message.sender.phone_number, message.recipient, message.text) == (PERSON, CHURCH, "  Stop all ")
    assert message.autoresponse_type == "STOP"
    elsewhere = OutboundText(recipient=PERSON, sender=other, text="hi")
    await client.send(elsewhere)
    simulated.inbound(PERSON, CHURCH, "START")
    await client.send(make_text())
    assert [reply.type for reply in simulated.record.carrier_replies] == ["STOP", "START"]


async def test_with_autoresponses_off_the_carrier_only_reports_a_stop(
    simulated: SimulatedCarrier, client: TelnyxCarrier, make_text: Callable[..., OutboundText], hook: Hook
) -> None:
    simulated.behaviour.autoresponses = False
    simulated.inbound(PERSON, CHURCH, "STOP")
    events = await hook.received(1)
    assert events[0].message is not None
    assert events[0].message.autoresponse_type is None
    await client.send(make_text())
    assert simulated.record.carrier_replies == []


async def test_an_inbound_picture_comes_with_its_media_and_may_come_twice(
    simulated: SimulatedCarrier, hook: Hook
) -> None:
    simulated.order(Fault(kind="receipt_doubled", event="received", next=1))
    simulated.inbound(PERSON, CHURCH, None, ("https://media.example/a.jpg",))
    first, second = await hook.received(2)
    assert first.id == second.id
    assert first.message is not None
    assert first.message.media is not None
    assert first.message.media[0].url == "https://media.example/a.jpg"
    assert first.message.text is None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"from": CHURCH, "text": "hi"}, ("10004", "/to")),
        ({"from": CHURCH, "to": 5, "text": "hi"}, ("10023", "/to")),
        ({"from": CHURCH, "to": "+1", "text": "hi"}, ("40310", "/to")),
        ({"to": PERSON, "text": "hi"}, ("10004", "/from")),
        ({"from": "+12055559999", "to": PERSON, "text": "hi"}, ("40305", "/from")),
        ({"from": CHURCH, "to": PERSON}, ("40316", "/text")),
        ({"from": CHURCH, "to": PERSON, "text": "a" * 1531}, ("40302", "/text")),
        ({"from": CHURCH, "to": PERSON, "text": "Ж", "encoding": "gsm7"}, ("40304", "/encoding")),
        ({"from": CHURCH, "to": PERSON, "media_urls": ["https://a.example"] * 11}, ("40317", "/media_urls")),
        ({"from": CHURCH, "to": PERSON, "text": "hi", "webhook_url": "h" * 2001}, ("10015", None)),
        ([], ("10023", None)),
    ],
)
async def test_a_bad_request_gets_telnyxs_error_and_is_not_recorded(
    simulated: SimulatedCarrier, http: aiohttp.ClientSession, body: Any, expected: tuple[str, str | None]
) -> None:
    got, answer = await post(http, "/v2/messages", body)
    error = answer["errors"][0]
    assert got == 400
    assert (error["code"], error.get("source", {}).get("pointer")) == expected
    assert simulated.record.texts == []


async def test_malformed_json_unknown_paths_methods_and_keys_get_telnyxs_errors(http: aiohttp.ClientSession) -> None:
    async with http.post("/v2/messages", data=b"{") as answer:
        assert (answer.status, (await answer.json())["errors"][0]["code"]) == (400, "10015")
    async with http.get("/v2/nothing") as answer:
        assert (answer.status, (await answer.json())["errors"][0]["code"]) == (404, "10005")
    async with http.delete("/v2/messages") as answer:
        assert (answer.status, (await answer.json())["errors"][0]["code"]) == (405, "10012")
    async with http.post("/v2/messages", json={}, headers={"Authorization": "Basic x"}) as answer:
        assert (answer.status, (await answer.json())["errors"][0]["code"]) == (401, "10009")
    async with http.get("/v2/detail_records") as answer:
        assert answer.status == 400
    async with http.get("/v2/detail_records?filter[record_type]=messaging&filter[color]=red") as answer:
        assert answer.status == 400


async def test_a_replay_is_the_first_answer_byte_for_byte(
    simulated: SimulatedCarrier, http: aiohttp.ClientSession
) -> None:
    body = {"from": CHURCH, "to": PERSON, "text": "hi"}
    answers: list[bytes] = []
    for _ in range(2):
        async with http.post("/v2/messages", json=body, headers={"Idempotency-Key": "k"}) as answer:
            assert answer.status == 200
            answers.append(await answer.read())
        await simulated.settled()
    assert answers[0] == answers[1]
    status, _ = await post(http, "/v2/messages", {**body, "text": "ho"}, **{"Idempotency-Key": "k"})
    assert status == 422
    status, error = await post(http, "/v2/messages", body, **{"Idempotency-Key": "no good"})
    assert (status, error["errors"][0]["code"]) == (400, "10015")
    assert simulated.record.summary().accepted == 1


async def test_a_key_whose_request_failed_is_free_again(
    simulated: SimulatedCarrier, http: aiohttp.ClientSession
) -> None:
    simulated.order(Fault(kind="error", status=503, next=1), Fault(kind="reset", next=1))
    body = {"from": CHURCH, "to": PERSON, "text": "hi"}
    with pytest.raises(aiohttp.ClientError):
        await post(http, "/v2/messages", body, **{"Idempotency-Key": "k"})
    async with http.post("/v2/messages", json=body, headers={"Idempotency-Key": "k"}) as answer:
        assert answer.status == 503
    status, _ = await post(http, "/v2/messages", body, **{"Idempotency-Key": "k"})
    assert status == 200


async def test_a_disabled_profile_refuses_until_it_is_enabled(http: aiohttp.ClientSession) -> None:
    profile = (await get(http, "/v2/messaging_profiles"))["data"][0]["id"]
    body = {"from": CHURCH, "to": PERSON, "text": "hi"}
    for enabled, expected in ((False, 403), (True, 200)):
        async with http.patch(f"/v2/messaging_profiles/{profile}", json={"enabled": enabled}) as answer:
            assert (await answer.json())["data"]["enabled"] is enabled
        assert (await post(http, "/v2/messages", body))[0] == expected


async def test_the_control_door_sets_faults_numbers_inbound_and_shows_the_record(
    simulated: SimulatedCarrier, http: aiohttp.ClientSession, hook: Hook
) -> None:
    number = {"phone_number": "+12055550177", "webhook_url": f"{hook.url}/other"}
    assert (await post(http, "/simulator/numbers", number))[0] == 200
    assert len((await get(http, "/simulator/numbers"))["numbers"]) == 2
    await post(http, "/simulator/faults", {"faults": [{"kind": "rate_limited", "next": 1, "seconds": 3}]})
    body = {"from": number["phone_number"], "to": PERSON, "text": "hi", "webhook_url": f"{hook.url}?d=t"}
    assert (await post(http, "/v2/messages", body))[0] == 429
    assert (await get(http, "/simulator/faults"))["faults"][0]["struck"] == 1
    for _ in range(2):
        assert (await post(http, "/v2/messages", body))[0] == 200
    await post(http, "/simulator/inbound", {"from": PERSON, "to": number["phone_number"], "text": "amen"})
    await hook.received(5)
    await simulated.settled()
    record = await get(http, "/simulator/record")
    assert (record["texts"]["accepted"], record["texts"]["duplicates"], record["texts"]["inbound"]) == (2, 1, 1)
    assert record["webhooks"]["delivered"] == 5
    assert record["texts"]["statuses"] == {"delivered": 2}
    page = await get(http, "/simulator/record/texts?limit=1")
    assert (page["total"], page["next_after"], page["data"][0]["token"]) == (2, 1, "t")
    assert len((await get(http, "/simulator/record/texts?after=1"))["data"]) == 1
    assert len((await get(http, f"/simulator/record/texts?to=%2B{PERSON[1:]}"))["data"]) == 2
    theirs = f"/simulator/record/texts?from=%2B{number['phone_number'][1:]}"
    assert len((await get(http, theirs))["data"]) == 2
    assert (await get(http, f"{theirs}&to=%2B12055550100"))["data"] == []
    assert (await get(http, "/simulator/record/texts?from=%2B12055550100"))["data"] == []
    assert (await get(http, "/simulator/record/duplicates"))["total"] == 1
    assert (await get(http, "/simulator/public-key"))["public_key"] == simulated.public_key
    assert (await post(http, "/simulator/reset", {}))[0] == 200
    overview = await get(http, "/simulator")
    assert overview["texts"]["accepted"] == 0
    assert len(overview["numbers"]) == 2


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/simulator/faults", {"faults": [{"kind": "earthquake"}]}),
        ("/simulator/faults", {"faults": [{"kind": "reset", "share": 2}]}),
        ("/simulator/inbound", {"from": "me", "to": CHURCH}),
        ("/simulator/numbers", {"phone_number": "12"}),
    ],
)
async def test_the_control_door_refuses_rubbish(http: aiohttp.ClientSession, path: str, body: object) -> None:
    status, answer = await post(http, path, body)
    assert status == 400
    assert answer["errors"][0]["source"]["pointer"]


async def test_settings_change_while_it_runs_and_bad_ones_change_nothing(
    simulated: SimulatedCarrier, http: aiohttp.ClientSession
) -> None:
    async with http.patch("/simulator/settings", json={"rate": "real", "idempotency": False}) as answer:
        assert (await answer.json())["rate"] == "real"
    for bad in ({"rate": "fast"}, {"rate": -1}, {"colour": "red"}, {"latency_seconds": "long"}):
        async with http.patch("/simulator/settings", json=bad) as answer:
            assert answer.status == 400
    assert (simulated.behaviour.rate, simulated.behaviour.idempotency) == ("real", False)


async def test_opt_outs_can_be_listed(simulated: SimulatedCarrier, http: aiohttp.ClientSession) -> None:
    simulated.inbound(PERSON, CHURCH, "quit")
    rows = (await get(http, "/v2/messaging_optouts"))["data"]
    assert [(row["from"], row["to"], row["keyword"]) for row in rows] == [(CHURCH, PERSON, "QUIT")]


async def test_ten_thousand_texts_are_recorded_and_counted(simulated: SimulatedCarrier, hook: Hook) -> None:
    count = 10_000
    async with TelnyxCarrier(simulated.url, "KEY", concurrency=50, connect_seconds=60) as client:

        async def send(first: int) -> None:
            for place in range(first, count, 50):
                await client.send(
                    OutboundText(
                        recipient=f"+1205{2_000_000 + place}",
                        sender=CHURCH,
                        text="Sunday at 10",
                        webhook_url=f"{simulated.url}/alive?d={place}",
                        idempotency_key=f"key-{place}",
                    )
                )

        simulated.order(Fault(kind="receipt_dropped"))
        await asyncio.gather(*(send(first) for first in range(50)))
    summary = simulated.record.summary()
    assert (summary.accepted, summary.recipients, summary.duplicates) == (count, count, 0)
    assert summary.statuses == {"delivered": count}
    assert hook.events == []
