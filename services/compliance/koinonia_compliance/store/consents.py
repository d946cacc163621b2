"""The proofs of consent given and withdrawn."""

from datetime import datetime
from uuid import UUID

import asyncpg

from koinonia.db import Transaction, statement
from koinonia.events import Envelope
from koinonia.events.carrier import MessageReceived
from koinonia.events.messaging import ConsentsGiven, GivenConsent
from koinonia.ids import derived_id, id_time

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


_INSERT_STATED = statement(
    "consents.insert_stated",
    """
    INSERT INTO consents (id, church_id, phone_index, purpose, granted, source, member_id, stated_source, occurred_at)
    SELECT given.id, $1, given.phone_index, 'sms', true, $2, given.member_id, given.stated_source, $3
    FROM unnest($4::uuid[], $5::bytea[], $6::uuid[], $7::text[]) AS given (id, phone_index, member_id, stated_source)
    ORDER BY given.id
    ON CONFLICT (id) DO NOTHING
    """,
)


async def insert_stated(tx: Transaction, given: ConsentsGiven) -> None:
    """Keep that a church says its members have consented, and where. Each said once, in whatever event it comes."""
    rows = given.consents
    await tx.execute(
        _INSERT_STATED,
        tx.tenant,
        given.said_by,
        given.said_at,
        [_id_of(each) for each in rows],
        [each.phone_index for each in rows],
        [each.member_id for each in rows],
        [each.source for each in rows],
    )


def _id_of(given: GivenConsent) -> UUID:
    """A member comes to consent once in each version."""
    version = given.version.to_bytes(8, "big")
    return derived_id(id_time(given.member_id), b"consent", given.member_id.bytes, version)


# What was said before and still held then, and what was said meanwhile.
_LIST_WHILE = statement(
    "consents.list_while",
    """
    (
        SELECT granted, occurred_at
        FROM consents
        WHERE church_id = $1 AND phone_index = $2 AND source = 'text' AND occurred_at < $3
        ORDER BY occurred_at DESC
        LIMIT 1
    )
    UNION ALL
    (
        SELECT granted, occurred_at
        FROM consents
        WHERE church_id = $1 AND phone_index = $2 AND source = 'text' AND occurred_at >= $3 AND occurred_at <= $4
        ORDER BY occurred_at
        LIMIT 20
    )
    """,
)


async def list_while(tx: Transaction, phone_index: bytes, since: datetime, until: datetime) -> list[asyncpg.Record]:
    """What a person had last said by text before a time, and said from then on: ``granted``, ``occurred_at``."""
    return await tx.fetch(_LIST_WHILE, tx.tenant, phone_index, since, until)
