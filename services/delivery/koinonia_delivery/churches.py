"""Churches: a new one gets its first number; a suspended one's numbers rest."""

from koinonia.bus import outbox
from koinonia.db import Transaction
from koinonia.events import Envelope
from koinonia.events.delivery import NumberChanged
from koinonia.events.gateway import ChurchChanged
from koinonia.ids import derived_id
from koinonia_delivery.store import numbers
from koinonia_delivery.store.numbers import Number


async def change(tx: Transaction, received: Envelope[ChurchChanged]) -> None:
    """Note the church; save the wish for a number, which the provisioning loop fulfils; hold or free its numbers."""
    church = received.data
    if not await numbers.change_church(tx, church.version, church.status):
        return
    if church.status == "active":
        await numbers.order(tx, derived_id(received.time, church.church_id.bytes, b"first number"))
        moved = await numbers.set_status(tx, "held", "active")
    else:
        moved = await numbers.set_status(tx, "active", "held")
    await outbox.add(tx, *(number_changed(number) for number in moved))


def number_changed(number: Number) -> NumberChanged:
    """A number's state for others."""
    return NumberChanged(
        number_id=number.id,
        version=number.version,
        phone=number.phone,
        kind=number.kind,
        status=number.status,
        is_default=number.is_default,
    )
