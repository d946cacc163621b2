"""A new church gets one number, whatever happens between us and the carrier."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from services.delivery.tests.integration.conftest import World, settings_for

from koinonia.carrier.simulated import SimulatedCarrier
from koinonia.carrier.telnyx import TelnyxCarrier
from koinonia.db import statement
from koinonia.events.delivery import NumberChanged
from koinonia.events.gateway import ChurchChanged
from koinonia.ids import new_id
from koinonia_delivery.provisioning import Provisioning

WaitUntil = Callable[..., Awaitable[object]]

DUE = statement("test.orders_due", "UPDATE number_orders SET next_try_at = clock_timestamp()")
FORGET_ANSWER = statement("test.forget_answer", "UPDATE number_orders SET order_id = NULL")
OPEN = statement("test.open_orders", "SELECT count(*) FROM number_orders WHERE completed_at IS NULL")


class Wish:
    """A church that has no number yet."""

    def __init__(self, world: World, provisioning: Provisioning) -> None:
        self.world = world
        self.provisioning = provisioning
        self.church_id = new_id()

    async def change(self, version: int = 1, status: str = "active") -> None:
        event = ChurchChanged(
            church_id=self.church_id,
            version=version,
            name="Grace",
            timezone="UTC",
            status=status,  # type: ignore[arg-type]
        )
        await self.world.apply("delivery.churches", self.world.envelope(event, church_id=self.church_id))

    async def work(self) -> bool:
        """Work on it now, whatever its next try; whether it is fulfilled."""
        async with self.world.database.across_churches() as tx:
            await tx.execute(DUE)
        await self.provisioning.run_once()
        async with self.world.database.across_churches() as tx:
            return not await tx.fetch_value(OPEN)

    async def changes(self) -> list[NumberChanged]:
        return [each.data for each in await self.world.events(NumberChanged)]


@pytest.fixture
async def carrier() -> AsyncIterator[SimulatedCarrier]:
    async with SimulatedCarrier() as carrier:
        yield carrier


@pytest.fixture
async def wish(new_world: World, carrier: SimulatedCarrier) -> AsyncIterator[Wish]:
    async with TelnyxCarrier(carrier.url, "key", read_seconds=1.0) as client:
        yield Wish(new_world, Provisioning(new_world.database, client, settings_for(long_code_rate=12.0)))


async def test_a_church_gets_a_profile_and_a_number_of_its_own(
    wish: Wish, carrier: SimulatedCarrier, wait_until: WaitUntil
) -> None:
    await wish.change()
    await wait_until(wish.work)
    (number,) = await wish.changes()
    assert (number.status, number.is_default, number.version, number.kind) == ("active", True, 1, "long_code")
    registry = carrier._world.registry
    assert list(registry.numbers) == [number.phone]
    (profile,) = registry.profiles.values()
    assert profile.name == f"koinonia {wish.church_id}"
    assert profile.webhook_url == "https://x.test/api/webhooks/telnyx/mms"
    assert registry.numbers[number.phone].profile_id == profile.id


async def test_a_church_announced_twice_gets_one_number(
    wish: Wish, carrier: SimulatedCarrier, wait_until: WaitUntil
) -> None:
    await wish.change()
    await wish.change(version=2)
    await wait_until(wish.work)
    await wish.change(version=3)
    assert await wish.work()
    assert len(carrier._world.registry.numbers) == 1
    assert len(await wish.changes()) == 1


async def test_an_order_whose_answer_was_lost_is_found_by_its_reference(
    wish: Wish, carrier: SimulatedCarrier, wait_until: WaitUntil
) -> None:
    await wish.change()
    await wish.work()
    async with wish.world.database.tenant(wish.church_id) as tx:
        await tx.execute(FORGET_ANSWER)
    await wait_until(wish.work)
    assert len(carrier._world.registry.orders) == 1
    assert len(await wish.changes()) == 1


async def test_a_suspended_churchs_numbers_rest_until_it_is_active_again(wish: Wish, wait_until: WaitUntil) -> None:
    await wish.change()
    await wait_until(wish.work)
    await wish.change(version=3, status="suspended")
    await wish.change(version=2, status="active")  # older: it says nothing any more
    await wish.change(version=4, status="active")
    assert [(each.status, each.version) for each in await wish.changes()] == [
        ("active", 1),
        ("held", 2),
        ("active", 3),
    ]


async def test_a_carrier_that_is_away_is_asked_again(
    wish: Wish, carrier: SimulatedCarrier, wait_until: WaitUntil
) -> None:
    await wish.change()
    await carrier.close()
    assert not await wish.work()
    await carrier.start()
    await wait_until(wish.work)
    assert len(await wish.changes()) == 1
