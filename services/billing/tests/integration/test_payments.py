"""Stripe's reports, kept over a real queue and table."""

from datetime import UTC, datetime

from koinonia.db import statement
from koinonia.events.gateway import PaymentReported
from koinonia.ids import new_id
from koinonia.testing.databases import Databases
from koinonia.testing.fixtures import wait_until
from koinonia.testing.services import BusProbe, StartService
from koinonia_billing.app import build
from koinonia_billing.settings import BillingSettings

_LIST = statement("test.list_reports", "SELECT * FROM payment_reports ORDER BY stripe_event_id")


def report(number: int) -> PaymentReported:
    return PaymentReported(
        stripe_event_id=f"evt_{number}",
        stripe_type="invoice.paid",
        object_id=f"in_{number}",
        customer_id=None if number else "cus_1",
        occurred_at=datetime(2026, 11, 21, 12, 0, tzinfo=UTC),
        live=True,
    )


async def test_each_report_is_kept_once_however_often_it_comes(
    start_service: StartService, bus: BusProbe, databases: Databases
) -> None:
    await start_service("billing", build, BillingSettings)
    first = await bus.publish(report(0), None)
    await bus.publish_envelope(first)  # the broker gives it twice
    await bus.publish(report(0), None, event_id=new_id())  # the gateway tells it twice
    await bus.publish(report(1), None)
    database = await databases("billing")

    async def kept() -> list[tuple[str, str, str | None]]:
        async with database.across_churches() as tx:
            return [(row["stripe_event_id"], row["object_id"], row["customer_id"]) for row in await tx.fetch(_LIST)]

    async def kept_the_last() -> bool:
        return len(await kept()) == 2

    await wait_until(kept_the_last, what="the last report")
    assert await kept() == [("evt_0", "in_0", "cus_1"), ("evt_1", "in_1", None)]
