"""The proofs of consent given and withdrawn."""

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
