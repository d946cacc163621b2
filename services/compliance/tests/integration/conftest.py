"""Compliance's handlers on a database of the test's own, and people who text."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from koinonia import clock
from koinonia.bus.applying import Applier
from koinonia.db import Database, statement
from koinonia.events import Envelope, Event, decode
from koinonia.events.carrier import MessageReceived
from koinonia.ids import new_id
from koinonia.security.keys import Keys
from koinonia.testing.databases import Databases
from koinonia_compliance import events

NUMBER_ID = UUID(int=11)
PERSON = "+12025550123"


@pytest.fixture
async def database(databases: Databases) -> Database:
    """Compliance's tables; no service runs on them."""
    return await databases("compliance")


@pytest.fixture
def says(keys: Keys, church_id: UUID) -> Callable[..., Envelope[MessageReceived]]:
    """``says("STOP", at=…)``: the event of a person's text to the church."""

    def make(
        text: str,
        *,
        at: datetime | None = None,
        phone: str = PERSON,
        church: UUID = church_id,
        answered_by_carrier: Any = None,
    ) -> Envelope[MessageReceived]:
        received = MessageReceived(
            number_id=NUMBER_ID,
            phone_index=keys.index(phone, church, "phone"),
            phone_ciphertext=keys.encrypt(phone, church, "phone"),
            text=text,
            media_urls=(),
            carrier_id="carrier-1",
            occurred_at=at or clock.now(),
            answered_by_carrier=answered_by_carrier,
        )
        return Envelope(id=new_id(), time=clock.now(), data=received, church_id=church)

    return make


@pytest.fixture
def apply(database: Database, keys: Keys) -> Callable[..., Awaitable[None]]:
    """``await apply(envelope, …)``: as the queue's consumer does, inbox and transaction included, one after another."""
    appliers = {
        kind: Applier(database, subscription) for subscription in events.listing(keys) for kind in subscription.handlers
    }

    async def run(*envelopes: Envelope[Any]) -> None:
        for envelope in envelopes:
            await appliers[type(envelope.data)].apply([envelope])

    return run


_SENT = statement("test.sent", "SELECT body FROM outbox ORDER BY id")


@pytest.fixture
def sent(database: Database) -> Callable[..., Awaitable[list[Any]]]:
    """``await sent(SuppressionAdded, …)``: what was published of these kinds so far, in order."""

    async def fetch(*kinds: type[Event]) -> list[Any]:
        async with database.across_churches() as tx:
            envelopes = [decode(row["body"]) for row in await tx.fetch(_SENT)]
        return [each.data for each in envelopes if isinstance(each.data, kinds)]

    return fetch
