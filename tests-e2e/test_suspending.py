"""An operator suspends a church: nothing of it is sent, its STOPs hold; and it goes on where it is resumed."""

import asyncio
from datetime import timedelta

import msgspec
import pytest

from koinonia import clock
from koinonia.api.messages import SendRequest
from koinonia.client import ApiError
from koinonia.testing.fixtures import wait_until

from .church import Church


@pytest.mark.timeout(240)
async def test_a_suspended_church_sends_nothing_and_its_stops_hold(church: Church) -> None:
    leaves, stays = await church.add(2)
    soon = clock.now() + timedelta(seconds=15)
    body = {"content": "Not while suspended", "targetType": "all", "targetIds": [], "scheduledAt": soon.isoformat()}
    planned = await church.client.messages.send(msgspec.convert(body, SendRequest))
    assert await church.platform.command("church", "suspend", str(church.id)) == (0, f"church {church.id} is suspended")

    async def refusal() -> str | None:
        try:
            await church.client.messages.get(planned.id)
        except ApiError as refused:
            return f"{refused.status} {refused.code}"
        return None

    assert await wait_until(refusal) == "403 FORBIDDEN"
    await church.platform.carrier.person_texts(leaves.phone, church.number, "STOP")
    assert clock.now() < soon
    await asyncio.sleep((soon - clock.now()).total_seconds() + 5)  # the broadcast's time has come and gone
    assert await church.texts() == []

    assert await church.platform.command("church", "resume", str(church.id)) == (0, f"church {church.id} is active")

    async def is_declined() -> bool:
        try:
            status = (await church.client.messages.get(planned.id)).status
        except ApiError:
            return False
        assert status in {"scheduled", "accepted", "declined"}
        return status == "declined"

    await wait_until(is_declined, seconds=30)

    sent = await church.send("Again")
    await church.client.messages.wait_until_completed(sent.id, timeout_seconds=60)
    by_phone = {row.phone: row.status for row in await church.agrees(sent.id)}
    assert by_phone == {leaves.phone: "suppressed", stays.phone: "delivered"}


async def test_an_operator_gives_a_church_another_plan(church: Church) -> None:
    told = await church.platform.command("church", "plan", str(church.id), "growth")
    assert told == (0, f"church {church.id} has the plan growth")
    subscription = await church.client.billing.subscription()
    assert (subscription.plan.name, subscription.status) == ("Growth", "active")
    status, said = await church.platform.command("church", "plan", str(church.id), "gold")
    assert (status, said) == (2, "koinonia: there is no plan gold; there are trial, starter, growth")

    async def is_recorded() -> bool:
        return [entry async for entry in church.client.audit.list(action="church.plan_set")] != []

    await wait_until(is_recorded, what="the audit log")
