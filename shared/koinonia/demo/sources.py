"""Where the figures are read: the public API, billing's ledger in the database, and the carrier's record."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar
from uuid import UUID

import asyncpg

from koinonia.client import Client
from koinonia.demo.carrier import DemoCarrier
from koinonia.demo.figures import Evidence, Metered

T = TypeVar("T")


class Ledger:
    """Billing's usage ledger, read as the table it is, past every service."""

    def __init__(self, database_url: str, church_id: UUID) -> None:
        self._url = database_url
        self._church_id = church_id

    async def read(self) -> dict[UUID, Metered]:
        """The sums by what was sent."""
        connection = await asyncpg.connect(self._url, timeout=10)
        try:
            async with connection.transaction(readonly=True):
                # Row-level security binds all but a superuser; the owner of the table sees every church.
                await connection.execute("SET LOCAL ROLE koinonia_billing_owner")
                rows = await connection.fetch(_SUMS, self._church_id)
        finally:
            await connection.close()
        return {row["source_id"]: Metered(recipients=row["recipients"], segments=row["segments"]) for row in rows}


_SUMS = """
SELECT source_id, sum(recipients)::integer AS recipients, sum(segments)::integer AS segments
FROM billing.usage_ledger
WHERE church_id = $1
GROUP BY source_id
"""


async def collect(
    client: Client, ledger: Ledger, carrier: DemoCarrier, number: str, message_ids: Sequence[UUID]
) -> Evidence:
    """Read everything once, each place by its own way."""
    messages, copies, usage, metered, texts = await asyncio.gather(
        asyncio.gather(*(client.messages.get(message_id) for message_id in message_ids)),
        asyncio.gather(*(everything(client.messages.recipients(message_id)) for message_id in message_ids)),
        client.billing.usage(),
        ledger.read(),
        carrier.texts_of(number),
    )
    return Evidence(
        messages={message.id: message for message in messages},
        copies=dict(zip(message_ids, copies, strict=True)),
        usage=usage,
        ledger=metered,
        texts=texts,
    )


async def everything(items: AsyncIterator[T]) -> list[T]:
    """All items of a list of the API."""
    return [item async for item in items]
