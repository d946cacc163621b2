"""Forgetting people: copies of a member or a phone blanked, a church's old ones deleted, in batches.

An open copy is left as it is, since what becomes of it is still to be counted and billed; it is erased once it is
closed.
"""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from koinonia.db import Transaction, statement
from koinonia.ids import id_floor
from koinonia_delivery.domain.erasing import ERASED

ROWS = 1000
"""Blanked in one transaction."""
PASSED_ROWS = 10_000
"""Looked at in one transaction, whosever they are."""

_FIND_PHONES = statement("member_phones.find", "SELECT phone_index FROM member_phones WHERE member_id = ANY ($1)")


async def find_phones(tx: Transaction, members: Collection[UUID]) -> list[bytes]:
    """The phones that the records of a member have or had."""
    return [row["phone_index"] for row in await tx.fetch(_FIND_PHONES, list(members))]


# Who shares the phone keeps the copy: it stays theirs, without the text, which was written to one of them by name.
_BLANK_MEMBER = statement(
    "recipients.blank_member",
    """
    WITH copy AS MATERIALIZED (
        SELECT recipients.id,
            ARRAY(SELECT other FROM unnest(recipients.member_ids) AS other WHERE other <> ALL ($1)) AS others
        FROM recipients
        WHERE recipients.phone_index = ANY ($2)
            AND recipients.member_ids && $1
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


async def blank_member(tx: Transaction, members: Collection[UUID], phones: list[bytes], nobody: bytes) -> int:
    """Blank up to ``ROWS`` closed copies that name a member by any record at these phones; answers how many.

    ``nobody``: the ciphertext that stands in place of a phone's.
    """
    return await tx.execute(_BLANK_MEMBER, list(members), phones, ROWS, ERASED, nobody)


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
        AND ($2::uuid[] IS NULL OR recipients.member_ids && $2)
    """,
)


async def count_open(tx: Transaction, phones: list[bytes], members: Collection[UUID] | None = None) -> int:
    """How many open copies went or go to these phones, and name one of the members where they are given."""
    found: int = await tx.fetch_value(_COUNT_OPEN, phones, None if members is None else list(members))
    return found


_FORGET_MEMBER = statement("member_phones.delete", "DELETE FROM member_phones WHERE member_id = ANY ($1)")


async def forget_member(tx: Transaction, members: Collection[UUID]) -> None:
    """Delete which phones a member's records have or had; its copies cannot be found by it any more."""
    await tx.execute(_FORGET_MEMBER, list(members))


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


_LIST_CHURCHES = statement(
    "recipients.list_churches",
    "SELECT DISTINCT church_id FROM recipients WHERE id > $1 AND id <= $2 AND church_id = ANY ($3)",
)


async def list_churches(tx: Transaction, after: UUID, to: UUID, churches: Collection[UUID]) -> list[UUID]:
    """Which of these churches have copies between two ids; across churches."""
    return [row["church_id"] for row in await tx.fetch(_LIST_CHURCHES, after, to, list(churches))]


_DELETE_BETWEEN = statement(
    "recipients.delete_between",
    """
    WITH gone AS (
        DELETE FROM recipients
        WHERE id > $1 AND id <= $2 AND settled_at IS NOT NULL
        RETURNING id
    ),
    told AS (
        DELETE FROM trail
        USING gone
        WHERE trail.id = gone.id AND trail.id > $1 AND trail.id <= $2
    )
    SELECT
        (SELECT count(*) FROM gone) AS gone,
        (SELECT id FROM recipients WHERE id > $1 AND id <= $2 AND settled_at IS NULL ORDER BY id LIMIT 1) AS oldest
    """,
)


async def delete_between(tx: Transaction, after: UUID, to: UUID) -> tuple[int, UUID | None]:
    """Delete the closed copies of the tenant between two ids, and their trails.

    Answers how many copies, and the oldest open one that is left.
    """
    row = await tx.fetch_row(_DELETE_BETWEEN, after, to)
    assert row is not None, "two values are one row"  # noqa: S101
    return row["gone"], row["oldest"]
