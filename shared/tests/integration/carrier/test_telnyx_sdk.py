"""Telnyx's own SDK against the simulated carrier: whoever learns on it learns the real thing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import telnyx

from koinonia.carrier.simulated import Fault, SimulatedCarrier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from shared.tests.integration.carrier.conftest import Hook

CHURCH = "+12055550100"
PERSON = "+12055550111"


@pytest.fixture
async def sdk(simulated: SimulatedCarrier) -> AsyncIterator[telnyx.AsyncTelnyx]:
    async with telnyx.AsyncTelnyx(
        api_key="KEY", base_url=f"{simulated.url}/v2", public_key=simulated.public_key, max_retries=0
    ) as client:
        yield client


async def test_it_sends_and_reads_the_answer_and_the_state(
    simulated: SimulatedCarrier, sdk: telnyx.AsyncTelnyx, hook: Hook
) -> None:
    sent = (await sdk.messages.send(from_=CHURCH, to=PERSON, text="Sunday at 10 ⛪", webhook_url=hook.url)).data
    assert sent is not None
    assert sent.id == simulated.record.texts[0].id
    assert (sent.encoding, sent.parts, sent.direction) == ("UCS-2", 1, "outbound")
    assert sent.to is not None
    assert sent.to[0].status == "queued"
    assert sent.valid_until is not None
    await hook.received(2)
    state = (await sdk.messages.retrieve(str(sent.id))).data
    assert state is not None
    assert state.completed_at is not None


async def test_it_replays_an_idempotency_key(simulated: SimulatedCarrier, sdk: telnyx.AsyncTelnyx) -> None:
    first, second = [
        await sdk.messages.send(from_=CHURCH, to=PERSON, text="hi", idempotency_key="key-1") for _ in range(2)
    ]
    assert first == second
    assert len(simulated.record.texts) == 1


async def test_its_own_retries_without_a_key_send_twice_which_is_why_we_do_not_use_them(
    simulated: SimulatedCarrier, sdk: telnyx.AsyncTelnyx, hook: Hook
) -> None:
    simulated.order(Fault(kind="answer_lost", next=1))
    await sdk.with_options(max_retries=1).messages.send(
        from_=CHURCH, to=PERSON, text="hi", webhook_url=f"{hook.url}?d=token"
    )
    assert simulated.record.summary().duplicates == 1


async def test_it_reads_errors_as_its_own_classes(simulated: SimulatedCarrier, sdk: telnyx.AsyncTelnyx) -> None:
    with pytest.raises(telnyx.BadRequestError) as bad:
        await sdk.messages.send(from_=CHURCH, to="nobody", text="hi")
    assert "40310" in str(bad.value)
    simulated.order(Fault(kind="rate_limited", next=1))
    with pytest.raises(telnyx.RateLimitError):
        await sdk.messages.send(from_=CHURCH, to=PERSON, text="hi")
    simulated.order(Fault(kind="reset", next=1))
    with pytest.raises(telnyx.APIConnectionError):
        await sdk.messages.send(from_=CHURCH, to=PERSON, text="hi")
    simulated.order(Fault(kind="error", status=500, code="10007", next=1))
    with pytest.raises(telnyx.InternalServerError):
        await sdk.messages.send(from_=CHURCH, to=PERSON, text="hi")
    with pytest.raises(telnyx.NotFoundError):
        await sdk.messages.retrieve("no-such-id")


async def test_it_accepts_our_signed_webhooks(sdk: telnyx.AsyncTelnyx, hook: Hook, simulated: SimulatedCarrier) -> None:
    await sdk.messages.send(from_=CHURCH, to=PERSON, text="hi", webhook_url=hook.url)
    simulated.inbound(PERSON, CHURCH, "Amen")
    await hook.received(3)
    seen = set()
    for body, headers in zip(hook.bodies, hook.headers, strict=True):
        event = sdk.webhooks.unwrap(body.decode(), headers=headers)
        seen.add(event.to_dict()["data"]["event_type"])  # type: ignore[index]
        with pytest.raises(ValueError, match="Signature verification failed"):
            sdk.webhooks.unwrap(body.decode() + " ", headers=headers)
    assert seen == {"message.sent", "message.finalized", "message.received"}


async def test_it_searches_orders_and_assigns_numbers(simulated: SimulatedCarrier, sdk: telnyx.AsyncTelnyx) -> None:
    profile = (await sdk.messaging_profiles.create(name="Grace", whitelisted_destinations=["US"])).data
    assert profile is not None
    found = await sdk.available_phone_numbers.list(
        filter={"country_code": "US", "national_destination_code": "312", "features": ["sms", "mms"], "limit": 2}
    )
    assert found.data is not None
    phone = str(found.data[0].phone_number)
    order = (
        await sdk.number_orders.create(
            phone_numbers=[{"phone_number": phone}], messaging_profile_id=str(profile.id), customer_reference="ref-1"
        )
    ).data
    assert order is not None
    assert order.status == "pending"
    done = (await sdk.number_orders.retrieve(str(order.id))).data
    assert done is not None
    assert done.status == "success"
    orders = [one async for one in sdk.number_orders.list(filter={"customer_reference": "ref-1"})]
    assert [one.id for one in orders] == [order.id]
    owned = [one async for one in sdk.phone_numbers.list(filter={"phone_number": phone})]
    settings = (await sdk.phone_numbers.messaging.update(str(owned[0].id), messaging_profile_id="")).data
    assert settings is not None
    assert settings.messaging_profile_id is None
    assert simulated.url


async def test_it_lists_detail_records_profiles_and_opt_outs(
    simulated: SimulatedCarrier, sdk: telnyx.AsyncTelnyx, hook: Hook
) -> None:
    for _ in range(25):
        await sdk.messages.send(from_=CHURCH, to=PERSON, text="hi", webhook_url=hook.url)
    await hook.received(50)
    wanted: Any = {"record_type": "messaging", "cld": PERSON, "cli": CHURCH}
    records = [row async for row in sdk.detail_records.list(filter=wanted)]
    assert len(records) == 25
    simulated.inbound(PERSON, CHURCH, "STOP")
    opt_outs = [row async for row in sdk.messaging_optouts.list()]
    assert [row.to for row in opt_outs] == [PERSON]
    profiles = [row async for row in sdk.messaging_profiles.list(filter_name_eq=f"profile of {CHURCH}")]
    assert len(profiles) == 1
