"""What compliance keeps of others: churches' names and admins, and which numbers are the platform's own."""

from uuid import UUID

from koinonia.db import Transaction
from koinonia.events import Envelope
from koinonia.events.delivery import NumberChanged
from koinonia.events.gateway import AdminChanged, ChurchChanged
from koinonia.security.keys import Keys
from koinonia_compliance.store import churches as store

_PLATFORM = UUID(int=0)  # one church may text another's number: own numbers are known by an index that all share


async def follow_church(tx: Transaction, received: Envelope[ChurchChanged]) -> None:
    """Keep a church's name, unless a newer one is known."""
    await store.save_church(tx, received.data.name, received.data.version)


async def follow_admin(tx: Transaction, received: Envelope[AdminChanged]) -> None:
    """Keep an admin's role, unless a newer state is known; one who was removed stays, for events that come late."""
    admin = received.data
    await store.save_admin(tx, admin.admin_id, version=admin.version, role=admin.role, status=admin.status)


async def follow_number(tx: Transaction, received: Envelope[NumberChanged], keys: Keys) -> None:
    """Keep whether a number is the platform's, unless a newer state is known."""
    number = received.data
    await store.save_number(
        tx,
        number.number_id,
        version=number.version,
        phone_index=platform_index(keys, number.phone),
        is_ours=number.status != "released",
    )


def platform_index(keys: Keys, phone: str) -> bytes:
    """The blind index of a number over all churches, to compare with our own numbers; never stored of a person."""
    return keys.index(phone, _PLATFORM, "phone")
