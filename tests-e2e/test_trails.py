"""Why did she not get it? A recipient's trail through all services, for its church and for an operator."""

import json
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest

from koinonia import clock
from koinonia.api.churches import ChurchSettingsPatch, QuietHours
from koinonia.api.messages import Message, ResolveRequest, SendRequest, Trail, Urgent
from koinonia.client import ApiError, Client
from koinonia.testing.fixtures import wait_until

from .caller import Caller
from .church import Church
from .test_restarts import is_drained

EXPIRE = "UPDATE delivery.work SET do_not_send_after = clock_timestamp() - interval '1 second' WHERE recipient_id = $1"
OWNER = "Ruth Miller"


async def trail_of(church: Church, message: Message, phone: str, *events: str) -> Trail:
    """The trail of one person's copy, once it tells of just these, and that what was accepted is on the bill.

    The bill and the audit log follow within a moment; a receipt may come before the ledger's line or after it.
    """
    (recipient_id,) = [row.id for row in await church.recipients(message.id) if row.phone == phone]

    async def found() -> Trail | None:
        trail = await church.client.messages.trail(message.id, recipient_id)
        told = [entry.event for entry in trail.entries]
        named = {entry.event for entry in trail.entries if entry.actor}
        is_metered = ("metered" in told) == ("accepted" in told)
        is_whole = [event for event in told if event != "metered"] == list(events) and is_metered
        return trail if is_whole and named >= {"requested", "cancelled", "resent"} & set(events) else None

    try:
        whole = await wait_until(found, seconds=20)
    except AssertionError:
        now = await church.client.messages.trail(message.id, recipient_id)
        raise AssertionError(f"not {events}, but: {[(each.event, each.sentence) for each in now.entries]}") from None
    assert isinstance(whole, Trail)
    assert (whole.message_id, whole.recipient_id, whole.missing) == (message.id, recipient_id, [])
    assert phone not in msgspec.json.encode(whole).decode()
    return whole


def sentence(trail: Trail, event: str) -> str:
    return next(entry.sentence for entry in trail.entries if entry.event == event)


ASKED = ("requested", "authorized", "dispatched")


async def test_a_trail_tells_what_became_of_each(church: Church) -> None:
    carrier, before = church.platform.carrier, clock.now()
    plain, stopped, failed, unknown, refused = [person.phone for person in await church.add(5)]
    await carrier.person_texts(stopped, church.number, "STOP")
    await until_suppressed(church, 1)
    await carrier.order("error", [failed], status=400, code="40310", title="Invalid 'to' address")
    await carrier.order("answer_lost", [unknown], next=1)
    await carrier.order("receipt_late", [unknown], seconds=15)  # it is asked for again before its receipt settles it
    await carrier.order("rate_limited", [refused], next=1, seconds=1)
    sent = await church.send("Who gets this?")
    message = await church.client.messages.wait_until_completed(sent.id, timeout_seconds=60)
    assert (message.counts.delivered, message.counts.failed, message.counts.suppressed) == (3, 1, 1)

    trail = await trail_of(church, message, plain, *ASKED, "accepted", "delivered")
    assert trail.status == "delivered"
    assert sentence(trail, "requested") == f"{OWNER} asked for it."
    assert trail.entries[0].actor is not None
    assert (trail.entries[0].actor.kind, trail.entries[0].actor.name) == ("admin", OWNER)
    assert before < trail.entries[0].at <= trail.entries[-1].at < clock.now()

    trail = await trail_of(church, message, stopped, "opted_out", *ASKED, "left_out")
    assert sentence(trail, "opted_out") == "This person opted out, by text."
    assert sentence(trail, "left_out") == "It was not sent. This person has opted out."

    trail = await trail_of(church, message, failed, *ASKED, "failed")
    (last,) = [entry for entry in trail.entries if entry.event == "failed"]
    assert (last.code, last.status, last.service) == ("40310", "failed", "delivery")
    assert last.sentence.endswith("This is not a phone number that can receive texts.")

    trail = await trail_of(church, message, unknown, *ASKED, "unknown", "accepted", "delivered")
    doubt, answer = [entry for entry in trail.entries if entry.event in {"unknown", "accepted"}]
    assert doubt.until is not None
    assert doubt.began_at is not None
    assert doubt.began_at < doubt.at < doubt.until <= answer.at
    assert answer.sentence == "Asked again for the same text, the carrier says that it has it: it went out once."

    trail = await trail_of(church, message, refused, *ASKED, "refused", "accepted", "delivered")
    assert "The carrier did not take it for now." in sentence(trail, "refused")
    await shows_operators(church, trail)


async def test_a_broadcast_waits_for_the_end_of_quiet_hours_and_an_urgent_one_does_not(church: Church) -> None:
    (person,) = await church.add(1)
    now, hour = clock.now(), timedelta(hours=1)
    hours = QuietHours(start=f"{now - hour:%H:%M}", until=f"{now + 2 * hour:%H:%M}")
    await church.client.churches.change(church.id, ChurchSettingsPatch(timezone="UTC", quiet_hours=hours))
    await wait_until(lambda: is_drained(church.platform), what="the news of the settings")
    plan = await church.client.messages.preview(SendRequest(content="Not now.", target_type="all"))
    assert plan.waits_until is not None
    assert plan.finishes_at is not None
    assert now + hour < plan.waits_until <= plan.finishes_at < now + 3 * hour
    waiting = await church.send("Not now.")
    assert waiting.waiting_until == plan.waits_until
    urgent = await church.client.messages.send(
        SendRequest(content="The service is called off.", target_type="all", urgent=Urgent(reason="The storm."))
    )
    assert urgent.urgent == Urgent(reason="The storm.")
    done = await church.client.messages.wait_until_completed(urgent.id, timeout_seconds=60)
    assert (done.counts.delivered, done.waiting_until) == (1, None)
    trail = await trail_of(church, waiting, person.phone, *ASKED, "waiting")
    assert sentence(trail, "waiting") == "It waits for the end of the church's quiet hours."
    assert trail.entries[-1].until == plan.waits_until
    await church.client.churches.change(church.id, ChurchSettingsPatch(quiet_hours=None))
    done = await church.client.messages.wait_until_completed(waiting.id, timeout_seconds=30)
    assert (done.counts.delivered, done.waiting_until) == (1, None)
    assert [text.text for text in await church.texts()] == ["The service is called off.", "Not now."]


async def test_a_second_broadcast_in_a_week_is_left_out_by_the_weekly_limit_and_an_urgent_one_is_not(
    church: Church,
) -> None:
    people = await church.add(2)
    settings = await church.client.churches.change(church.id, ChurchSettingsPatch(weekly_limit=1))
    assert settings.weekly_limit == 1
    await wait_until(lambda: is_drained(church.platform), what="the news of the settings")
    first = await church.send("The first of the week.")
    done = await church.client.messages.wait_until_completed(first.id, timeout_seconds=60)
    assert (done.counts.delivered, done.counts.suppressed) == (2, 0)

    again = SendRequest(content="One too many.", target_type="all")
    plan = await church.client.messages.preview(again)
    assert (plan.recipients, plan.suppressed, plan.left_out.weekly_limit) == (2, 2, 2)
    assert "weekly_limit" in [warning.code for warning in plan.warnings]
    second = await church.client.messages.send(again)
    done = await church.client.messages.wait_until_completed(second.id, timeout_seconds=60)
    assert (done.counts.delivered, done.counts.suppressed) == (0, 2)
    assert {row.error_code for row in await church.agrees(second.id)} == {"weekly_limit"}
    trail = await trail_of(church, second, people[0].phone, *ASKED, "left_out")
    reason = "It was not sent. This person has had as many texts this week as the church allows."
    assert sentence(trail, "left_out") == reason

    storm = SendRequest(content="Called off.", target_type="all", urgent=Urgent(reason="The storm."))
    assert (await church.client.messages.preview(storm)).left_out.weekly_limit == 0
    urgent = await church.client.messages.send(storm)
    done = await church.client.messages.wait_until_completed(urgent.id, timeout_seconds=60)
    assert (done.counts.delivered, done.counts.suppressed) == (2, 0)
    await church.client.churches.change(church.id, ChurchSettingsPatch(weekly_limit=None))
    await wait_until(lambda: is_drained(church.platform), what="the news of the settings")
    third = await church.send("As many as we like.")
    done = await church.client.messages.wait_until_completed(third.id, timeout_seconds=60)
    assert (done.counts.delivered, done.counts.suppressed) == (2, 0)
    wanted = Counter({"The first of the week.": 2, "Called off.": 2, "As many as we like.": 2})
    assert Counter(text.text for text in await church.texts()) == wanted


async def test_a_trail_tells_of_what_was_taken_back_or_came_too_late(church: Church) -> None:
    carrier = church.platform.carrier
    late, other = [person.phone for person in await church.add(2)]
    await carrier.order("rate_limited", [late, other], next=2, seconds=12)
    sent = await church.send("Too late.")
    row = await church.refused_for_now(sent, late)
    connection = await asyncpg.connect(church.platform.state.read_processes()["postgres"].url)
    await connection.execute(EXPIRE, row)
    await connection.close()
    message = await church.client.messages.wait_until_completed(sent.id, timeout_seconds=60)
    assert message.counts.expired == 1
    trail = await trail_of(church, message, late, *ASKED, "refused", "expired")
    assert sentence(trail, "expired") == "It was not sent. It could not be sent in time."

    await carrier.order("rate_limited", [late, other], next=2, seconds=30)
    sent = await church.send("Never mind.")
    await church.refused_for_now(sent, late)
    await church.client.messages.cancel(sent.id)
    trail = await trail_of(church, sent, late, *ASKED, "refused", "cancelled", "cancelled")
    assert trail.status == "cancelled"
    assert sentence(trail, "cancelled") == f"{OWNER} cancelled the message."
    assert trail.entries[-1].sentence == "It was not sent: the message was cancelled."


async def test_a_trail_names_the_program_that_asked_and_who_decided(church: Church) -> None:
    (person,) = await church.add(1)
    await church.platform.carrier.order("final_status", [person.phone], final_status="delivery_unconfirmed")
    program = Client(church.platform.url, api_key=await church.api_key("sender"))
    body = {"content": "By a program.", "targetType": "all"}
    sent = await program.messages.send(msgspec.convert(body, SendRequest))
    await program.transport.close()
    message = await church.client.messages.wait_until_completed(sent.id, timeout_seconds=60)
    (recipient,) = await church.recipients(sent.id)
    await church.platform.carrier.clear_faults()
    await church.client.messages.resolve(sent.id, recipient.id, ResolveRequest(action="resend"))

    async def delivered() -> bool:
        return (await church.recipients(sent.id))[0].status == "delivered"

    await wait_until(delivered, seconds=30)
    way = ("accepted", "unconfirmed", "resent", "accepted", "delivered")
    trail = await trail_of(church, message, person.phone, *ASKED, *way)
    assert sentence(trail, "requested") == "The API key “Program” asked for it."
    assert sentence(trail, "resent") == f"{OWNER} decided to send it once more."
    assert sentence(trail, "unconfirmed") == "The carrier says that it cannot tell whether it was delivered."


@pytest.mark.parametrize("role", ["viewer", "sender"])
async def test_who_may_read_recipients_may_read_their_trails(church: Church, role: str) -> None:
    await church.add(1)
    sent = await church.send("For all to see.")
    await church.client.messages.wait_until_completed(sent.id, timeout_seconds=90)
    (recipient,) = await church.recipients(sent.id)
    reader = Client(church.platform.url, api_key=await church.api_key(role))
    assert (await reader.messages.trail(sent.id, recipient.id)).status == "delivered"
    for ids in ((sent.id, UUID(int=1)), (UUID(int=1), recipient.id), (recipient.id, sent.id)):
        with pytest.raises(ApiError) as refused:
            await reader.messages.trail(*ids)
        assert refused.value.status == 404
    await reader.transport.close()


async def test_another_church_is_told_nothing(church: Church, new_church: Callable[[], Awaitable[Church]]) -> None:
    await church.add(1)
    sent = await church.send("Ours alone.")
    await church.client.messages.wait_until_completed(sent.id, timeout_seconds=90)
    (recipient,) = await church.recipients(sent.id)
    stranger = await new_church()
    with pytest.raises(ApiError) as refused:
        await stranger.client.messages.trail(sent.id, recipient.id)
    assert refused.value.status == 404


async def shows_operators(church: Church, trail: Trail) -> None:
    """An operator sees the same, and the trace of the request that began it."""
    code, said = await church.platform.command("delivery", "trail", str(trail.recipient_id), "--json")
    assert code == 0, said
    told: dict[str, Any] = json.loads(said.splitlines()[-1])  # a slow statement may have been logged before
    assert msgspec.json.decode(msgspec.json.encode(trail.entries)) == told["entries"]
    assert told["churchId"] == str(church.id)
    assert len(told["traceId"]) == 32
    code, said = await church.platform.command("delivery", "trail", str(trail.recipient_id))
    assert code == 0, said
    assert told["traceId"] in said
    assert "asked for it." in said
    code, said = await church.platform.command("delivery", "trail", str(UUID(int=1)))
    assert (code, said) == (2, f"koinonia: there is no recipient {UUID(int=1)}")


async def test_an_operator_is_told_the_trace_of_the_request(church: Church) -> None:
    await church.add(1)
    trace_id = secrets.token_hex(16)
    async with Caller(church) as caller:
        answer = await caller.send(
            "POST",
            "/api/messages/send",
            b'{"content": "Follow me.", "targetType": "all"}',
            {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"},
        )
    message_id = UUID(answer.json()["message"]["id"])
    await church.client.messages.wait_until_completed(message_id, timeout_seconds=90)
    (recipient,) = await church.recipients(message_id)
    code, said = await church.platform.command("delivery", "trail", str(recipient.id))
    assert code == 0, said
    assert f"trace      {trace_id}" in said


async def until_suppressed(church: Church, count: int) -> None:
    """Wait until so many numbers would be left out."""
    body = msgspec.convert({"content": "Hi", "targetType": "all"}, SendRequest)

    async def is_known() -> bool:
        return (await church.client.messages.preview(body)).suppressed == count

    await wait_until(is_known, seconds=20, what="the suppression")
