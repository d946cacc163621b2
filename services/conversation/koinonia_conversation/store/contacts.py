"""Projections: contacts and the church's numbers. A newer version wins, whatever the order."""

from collections.abc import Sequence
from uuid import UUID

from koinonia.db import Transaction, statement
from koinonia.events.messaging import MemberState

_UPSERT = statement(
    "contacts.upsert",
    """
    INSERT INTO contacts (member_id, church_id, version, first_name, last_name, phone_index, deleted)
    SELECT member_id, $1, version, first_name, last_name, phone_index, deleted
    FROM unnest($2::uuid[], $3::integer[], $4::text[], $5::text[], $6::bytea[], $7::boolean[])
        AS change (member_id, version, first_name, last_name, phone_index, deleted)
    ORDER BY member_id
    ON CONFLICT (member_id) DO UPDATE
    SET version = excluded.version, first_name = excluded.first_name, last_name = excluded.last_name,
        phone_index = excluded.phone_index, deleted = excluded.deleted
    WHERE contacts.version < excluded.version
    """,
)


async def upsert(tx: Transaction, members: Sequence[MemberState]) -> None:
    """Take over members; of a deleted one only the tombstone stays."""
    await tx.execute(
        _UPSERT,
        tx.tenant,
        [each.member_id for each in members],
        [each.version for each in members],
        ["" if each.deleted else each.first_name for each in members],
        ["" if each.deleted else each.last_name for each in members],
        [None if each.deleted else each.phone_index for each in members],
        [each.deleted for each in members],
    )


_UPSERT_NUMBER = statement(
    "numbers.upsert",
    """
    INSERT INTO numbers (number_id, church_id, version, status)
    VALUES ($1, $2, $3, $4)
    ON CONFLICT (number_id) DO UPDATE SET version = excluded.version, status = excluded.status
    WHERE numbers.version < excluded.version
    """,
)


async def upsert_number(tx: Transaction, number_id: UUID, version: int, status: str) -> None:
    """Take over a number's state."""
    await tx.execute(_UPSERT_NUMBER, number_id, tx.tenant, version, status)
