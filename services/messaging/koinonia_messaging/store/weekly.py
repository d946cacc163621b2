"""Who has had how many bulk texts of a church in a week. Rows are written only while the church has a weekly limit.

A text counts from when its page is streamed. One that went out to nobody counts for nobody, once that is sure.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from koinonia import clock
from koinonia.db import Transaction, statement
from koinonia_messaging.domain.audience import Target
from koinonia_messaging.domain.weekly import WEEK, WeeklyLimit
from koinonia_messaging.store.audience import fetch, reading

_LOCK = statement("bulk_texts.lock", "SELECT pg_advisory_xact_lock(hashtextextended('messaging.weekly.' || $1, 0))")


async def lock(tx: Transaction) -> None:
    """Let no other page of this church be streamed until the transaction ends: two would both find room for the last
    text of somebody's week.

    A statement of its own, before the one that counts: under READ COMMITTED that sees what the other page wrote.
    """
    await tx.execute(_LOCK, str(tx.tenant))


def over_limit(condition: str, limit: str) -> str:
    """The CTE ``limited``, and what it needs: the numbers with so many texts, of those that the condition names.

    By array and by hash: a table that was just filled has no statistics, and a join would compare each with each.
    """
    return f"""had AS MATERIALIZED (
        SELECT phone_index, message_id FROM bulk_texts WHERE {condition}
    ), gone_to_nobody AS MATERIALIZED (
        SELECT id
        FROM messages
        WHERE id = ANY (ARRAY(SELECT DISTINCT message_id FROM had))
            AND completed_at IS NOT NULL
            AND delivered + undelivered + unconfirmed = 0
    ), limited AS MATERIALIZED (
        SELECT phone_index
        FROM had
        WHERE message_id NOT IN (SELECT id FROM gone_to_nobody)
        GROUP BY phone_index
        HAVING count(*) >= {limit}
    )"""


_OF_PAGE = "phone_index = ANY($1::bytea[]) AND texted_at > $2 AND message_id IS DISTINCT FROM $3"
_LIST_LIMITED = statement(
    "bulk_texts.list_limited",
    f"""
    WITH {over_limit(_OF_PAGE, "$4::int")}
    SELECT phone_index FROM limited
    """,
)


async def list_limited(
    tx: Transaction, phone_indexes: Sequence[bytes], limit: WeeklyLimit, resend_of: UUID | None
) -> frozenset[bytes]:
    """Those of the numbers that have had as many texts as the limit allows, or more.

    ``resend_of``: a message that did not reach who is sent to again; it does not count.
    """
    rows = await tx.fetch(_LIST_LIMITED, phone_indexes, limit.since, resend_of, limit.texts)
    return frozenset(row["phone_index"] for row in rows)


_COUNT_LIMITED = reading(
    "count_limited",
    f"""
    WITH {over_limit("texted_at > $2", "$3::int")}, numbers AS (
        SELECT phone_index
        FROM members
        WHERE deleted_at IS NULL AND {{audience}}
        GROUP BY phone_index
        HAVING bool_or(opted_in)
    )
    SELECT count(*) AS numbers
    FROM numbers
    LEFT JOIN suppressions ON suppressions.phone_index = numbers.phone_index AND suppressions.suppressed
    WHERE suppressions.phone_index IS NULL AND (numbers.phone_index IN (SELECT phone_index FROM limited)) IS TRUE
    """,
    values=3,
)


async def count_limited(tx: Transaction, target: Target, limit: WeeklyLimit) -> int:
    """The numbers of an audience that could be texted, but have had as many texts as the limit allows."""
    (row,) = await fetch(tx, _COUNT_LIMITED, target, limit.since, limit.texts)
    return int(row["numbers"])


# What comes again to those whom another message did not reach takes that one's place.
_NOTE = statement(
    "bulk_texts.note",
    """
    WITH given_back AS (
        DELETE FROM bulk_texts WHERE phone_index = ANY($2::bytea[]) AND message_id = $5
    )
    INSERT INTO bulk_texts (church_id, phone_index, message_id, texted_at)
    SELECT $1, unnest($2::bytea[]), $3, $4
    ON CONFLICT DO NOTHING
    """,
)


async def note(
    tx: Transaction, phone_indexes: Sequence[bytes], message_id: UUID, at: datetime, resend_of: UUID | None
) -> None:
    """Note to whom a page of a message goes; once, however often the page is streamed."""
    await tx.execute(_NOTE, tx.tenant, phone_indexes, message_id, at, resend_of)


_FORGET = statement(
    "bulk_texts.forget",
    """
    DELETE FROM bulk_texts
    WHERE ctid = ANY (
        ARRAY(SELECT ctid FROM bulk_texts WHERE texted_at <= $1 ORDER BY texted_at LIMIT $2)
    )
    """,
)


async def forget(tx: Transaction, limit: int) -> int:
    """Delete what counts no more, of all churches, ``limit`` rows at most; returns how many."""
    return await tx.execute(_FORGET, clock.now() - WEEK, limit)
