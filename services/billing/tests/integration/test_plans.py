"""`koinonia church plan`: an operator gives a church another plan, which holds for the next broadcast."""

from uuid import UUID

import pytest

from koinonia.cli.main import CommandFailed
from koinonia.events.audit import ActionRecorded
from koinonia.events.billing import MessageAuthorized, MessageDeclined, SubscriptionChanged
from koinonia.events.gateway import ChurchChanged
from koinonia.events.messaging import MessageDue
from koinonia.ids import new_id
from koinonia.service import Running
from koinonia.testing.databases import DatabaseUrls
from koinonia.testing.servers import TestServers
from koinonia.testing.services import BusProbe, StartService
from koinonia_billing.app import build
from koinonia_billing.commands import set_plan
from koinonia_billing.settings import BillingSettings

Service = Running[BillingSettings]


@pytest.fixture
async def admin_url(database_urls: DatabaseUrls, servers: TestServers) -> str:
    return servers.database_url((await database_urls("billing")).rpartition("/")[2].partition("?")[0])


@pytest.fixture
async def service(start_service: StartService, bus: BusProbe, church_id: UUID) -> Service:
    """Billing, where the church and another one have their trials."""
    started: Service = await start_service("billing", build, BillingSettings, trial_segments=100)
    for each in (church_id, new_id()):
        church = ChurchChanged(church_id=each, version=1, name="Grace", timezone="UTC", status="active")
        await bus.publish(church, each)
        await bus.next(SubscriptionChanged)
    return started


async def test_another_plan_holds_for_the_next_broadcast_and_is_told_and_recorded(
    service: Service, admin_url: str, bus: BusProbe, church_id: UUID
) -> None:
    async def ask(segments: int) -> None:
        due = MessageDue(message_id=new_id(), version=1, recipient_count=segments, segment_bound=segments)
        await bus.publish(due, church_id)

    await ask(2000)
    await bus.next(MessageDeclined)
    assert await set_plan(admin_url, church_id, "growth")
    changed = await bus.next(SubscriptionChanged)
    assert (changed.church_id, changed.data.version, changed.data.plan, changed.data.status) == (
        church_id,
        2,
        "growth",
        "active",
    )
    assert changed.data.included_segments == 10_000
    act = (await bus.next(ActionRecorded)).data
    assert (act.action, act.actor_kind, act.outcome, act.target_id) == (
        "church.plan_set",
        "operator",
        "success",
        church_id,
    )
    assert (act.details["before"], act.details["after"]) == ("trial", "growth")
    await ask(2000)
    assert (await bus.next(MessageAuthorized)).data.segment_bound == 2000


async def test_the_same_plan_again_changes_nothing_and_another_churchs_stays(
    service: Service, admin_url: str, bus: BusProbe, church_id: UUID
) -> None:
    assert not await set_plan(admin_url, church_id, "trial")
    assert await set_plan(admin_url, church_id, "starter")
    assert not await set_plan(admin_url, church_id, "starter")
    [changed] = await bus.all(SubscriptionChanged)
    assert (changed.church_id, changed.data.version) == (church_id, 2)
    assert await set_plan(admin_url, church_id, "trial")
    assert (await bus.all(SubscriptionChanged))[-1].data.status == "trialing"


@pytest.mark.usefixtures("service")
async def test_what_is_not_there_is_one_clear_line(admin_url: str, church_id: UUID) -> None:
    with pytest.raises(CommandFailed, match="there is no plan gold; there are trial, starter, growth"):
        await set_plan(admin_url, church_id, "gold")
    unknown = new_id()
    with pytest.raises(CommandFailed, match=f"there is no church {unknown}"):
        await set_plan(admin_url, unknown, "growth")
