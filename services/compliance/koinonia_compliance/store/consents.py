"""The proofs of consent given and withdrawn."""

from datetime import datetime

import asyncpg

from koinonia.db import Transaction, statement
from koinonia.events import Envelope
from koinonia.events.carrier import MessageReceived

_INSERT = statement(
    "consents.insert",
    """
    INSERT INTO consents (
        id, church_id, phone_index, purpose, granted, source, number_id, carrier_id, occurred_at
    )
    VALUES ($1, $2, $3, 'sms', $4, 'text', $5, $6, $7)
    ON CONFLICT (id) DO NOTHING
    """,
)


async def insert(tx: Transaction, received: Envelope[MessageReceived], *, granted: bool) -> None:
    """Keep that a person said so by text: to which number, under which id at the carrier, when. Said once."""
    text = received.data
    await tx.execute(
        _INSERT, received.id, tx.tenant, text.phone_index, granted, text.number_id, text.carrier_id, text.occurred_at
    )


# What was said before and still held then, and what was said meanwhile.
_LIST_WHILE = statement(
    "consents.list_while",
    """
    (
        SELECT granted, occurred_at
        FROM consents
        WHERE church_id = $1 AND phone_index = $2 AND occurred_at < $3
        ORDER BY occurred_at DESC
        LIMIT 1
    )
    UNION ALL
    (
        SELECT granted, occurred_at
        FROM consents
        WHERE church_id = $1 AND phone_index = $2 AND occurred_at >= $3 AND occurred_at <= $4
        ORDER BY occurred_at
        LIMIT 20
    )
    """,
)


async def list_while(tx: Transaction, phone_index: bytes, since: datetime, until: datetime) -> list[asyncpg.Record]:
    """What a person had last said by text before a time, and said from then on: ``granted``, ``occurred_at``."""
    return await tx.fetch(_LIST_WHILE, tx.tenant, phone_index, since, until)
