"""Who consents to texts, as messaging tells; read by each claim beside suppressions and holds."""

from collections.abc import Sequence
from uuid import UUID

from koinonia.db import Transaction, statement
from koinonia.events.messaging import MemberState

_UPSERT = statement(
    "consents.upsert",
    """
    WITH change AS MATERIALIZED (
        SELECT change.*
        FROM unnest($2::uuid[], $3::integer[], $4::bytea[], $5::boolean[], $6::uuid[])
            AS change (member_id, version, phone_index, consents, merged_into)
    ),
    phones AS (
        INSERT INTO member_phones (member_id, phone_index, church_id)
        SELECT DISTINCT change.member_id, change.phone_index, $1::uuid
        FROM change
        WHERE change.phone_index IS NOT NULL
        ORDER BY change.member_id, change.phone_index
        ON CONFLICT (member_id, phone_index) DO NOTHING
    )
    INSERT INTO consents (member_id, church_id, version, phone_index, consents, merged_into)
    SELECT DISTINCT ON (change.member_id)
        change.member_id, $1, change.version, change.phone_index, change.consents, change.merged_into
    FROM change
    ORDER BY change.member_id, change.version DESC
    ON CONFLICT (member_id) DO UPDATE
    SET version = excluded.version, phone_index = excluded.phone_index, consents = excluded.consents,
        merged_into = excluded.merged_into
    WHERE consents.version < excluded.version
    """,
)


async def upsert(tx: Transaction, members: Sequence[MemberState]) -> None:
    """Take over members; a newer version wins, whatever the order. A deleted one consents to nothing.

    Of an older version too the phone is kept: copies may have gone there.
    """
    await tx.execute(
        _UPSERT,
        tx.tenant,
        [each.member_id for each in members],
        [each.version for each in members],
        [each.phone_index for each in members],
        [each.opted_in and not each.deleted for each in members],
        [each.merged_into for each in members],
    )


_FIND_RECORDS = statement(
    "consents.find_records",
    """
    WITH kept AS (
        SELECT coalesce((SELECT merged_into FROM consents WHERE member_id = $1), $1) AS member_id
    )
    SELECT member_id FROM kept
    UNION
    SELECT member_id FROM consents WHERE merged_into = (SELECT member_id FROM kept)
    """,
)


async def find_records(tx: Transaction, member_id: UUID) -> list[UUID]:
    """All records that are one person: of a merged one too the one that was kept, and all that were merged into it."""
    return [row["member_id"] for row in await tx.fetch(_FIND_RECORDS, member_id)]
