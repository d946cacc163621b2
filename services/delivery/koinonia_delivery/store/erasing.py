"""Forgetting people: copies of a member or a phone blanked, a church's old ones deleted, in batches.

An open copy is left as it is, since what becomes of it is still to be counted and billed; it is erased once it is
closed.
"""

from datetime import datetime
from uuid import UUID

from koinonia.db import Transaction, statement
from koinonia.ids import id_floor
from koinonia_delivery.domain.erasing import ERASED

ROWS = 1000
"""Blanked in one transaction."""
PASSED_ROWS = 10_000
"""Looked at in one transaction, whosever they are."""

_FIND_PHONES = statement("member_phones.find", "SELECT phone_index FROM member_phones WHERE member_id = $1")


async def find_phones(tx: Transaction, member_id: UUID) -> list[bytes]:
    """The phones that a member has or had."""
    return [row["phone_index"] for row in await tx.fetch(_FIND_PHONES, member_id)]


# Who shares the phone keeps the copy: it stays theirs, without the text, which was written to one of them by name.
_BLANK_MEMBER = statement(
    "recipients.blank_member",
    """
    WITH copy AS MATERIALIZED (
        SELECT recipients.id, array_remove(recipients.member_ids, $1) AS others
        FROM recipients
        WHERE recipients.phone_index = ANY ($2)
            AND $1 = ANY (recipients.member_ids)
            AND recipients.settled_at IS NOT NULL
        ORDER BY recipients.id
        LIMIT $3
        FOR UPDATE
    )
    UPDATE recipients
    SET member_ids = copy.others, text = $4, media_urls = '{}',
        phone_index = CASE WHEN copy.others = '{}' THEN '' ELSE recipients.phone_index END,
        phone_ciphertext = CASE WHEN copy.others = '{}' THEN $5 ELSE recipients.phone_ciphertext END,
        carrier_id = CASE WHEN copy.others <> '{}' THEN recipients.carrier_id END
    FROM copy
    WHERE recipients.id = copy.id
    """,
)


async def blank_member(tx: Transaction, member_id: UUID, phones: list[bytes], nobody: bytes) -> int:
    """Blank up to ``ROWS`` closed copies that name a member at these phones; answers how many.

    ``nobody``: the ciphertext that stands in place of a phone's.
    """
    return await tx.execute(_BLANK_MEMBER, member_id, phones, ROWS, ERASED, nobody)


_BLANK_PHONE = statement(
    "recipients.blank_phone",
    """
    WITH copy AS MATERIALIZED (
        SELECT recipients.id
        FROM recipients
        WHERE recipients.phone_index = $1 AND recipients.settled_at IS NOT NULL
        ORDER BY recipients.id
        LIMIT $2
        FOR UPDATE
    )
    UPDATE recipients
    SET member_ids = '{}', text = $3, media_urls = '{}', phone_index = '', phone_ciphertext = $4, carrier_id = NULL
    FROM copy
    WHERE recipients.id = copy.id
    """,
)


async def blank_phone(tx: Transaction, phone_index: bytes, nobody: bytes) -> int:
    """Blank up to ``ROWS`` closed copies that went to a phone, whoever they name; answers how many."""
    return await tx.execute(_BLANK_PHONE, phone_index, ROWS, ERASED, nobody)


_COUNT_OPEN = statement(
    "recipients.count_open_of",
    """
    SELECT count(*)
    FROM recipients
    WHERE recipients.phone_index = ANY ($1)
        AND recipients.settled_at IS NULL
        AND ($2::uuid IS NULL OR $2 = ANY (recipients.member_ids))
    """,
)


async def count_open(tx: Transaction, phones: list[bytes], member_id: UUID | None = None) -> int:
    """How many open copies went or go to these phones, and name the member where one is given."""
    found: int = await tx.fetch_value(_COUNT_OPEN, phones, member_id)
    return found


_FORGET_MEMBER = statement("member_phones.delete", "DELETE FROM member_phones WHERE member_id = $1")


async def forget_member(tx: Transaction, member_id: UUID) -> None:
    """Delete which phones a member has or had; its copies cannot be found by it any more."""
    await tx.execute(_FORGET_MEMBER, member_id)


# A church's copies stand in no index of their own: the rows of all churches are passed in the order of their ids.
_FIND_END = statement(
    "recipients.find_end",
    "SELECT id FROM recipients WHERE id > $1 AND id < $2 ORDER BY id OFFSET $3 LIMIT 1",
)


def last_id_before(at: datetime) -> UUID:
    """The greatest id that is older than a time."""
    return UUID(int=id_floor(at).int - 1)


async def find_end(tx: Transaction, after: UUID, before: datetime) -> UUID | None:
    """The last id of the next ``PASSED_ROWS`` that are older than a time, across churches; None: there are fewer."""
    found: UUID | None = await tx.fetch_value(_FIND_END, after, id_floor(before), PASSED_ROWS - 1)
    return found


_DELETE_BETWEEN = statement(
    "recipients.delete_between",
    """
    WITH gone AS (
        DELETE FROM recipients
        WHERE id > $1 AND id <= $2 AND settled_at IS NOT NULL
        RETURNING id
    ), told AS (
        DELETE FROM trail
        USING gone
        WHERE trail.id = gone.id AND trail.id > $1 AND trail.id <= $2
    )
    SELECT count(*) FROM gone
    """,
)


async def delete_between(tx: Transaction, after: UUID, to: UUID) -> int:
    """Delete the closed copies of the tenant between two ids, and their trails; answers how many copies."""
    deleted: int = await tx.fetch_value(_DELETE_BETWEEN, after, to)
    return deleted
