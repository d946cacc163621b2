"""What a merge writes beside the kept member. Whoever calls holds ``members.lock``."""

from datetime import datetime
from uuid import UUID

from koinonia.db import Transaction, statement
from koinonia_messaging.domain.people import Person
from koinonia_messaging.store.members import PERSON, person_of

_MERGE = statement(
    "members.merge",
    f"""
    UPDATE members
    SET merged_into = $2,
        deleted_at = coalesce(deleted_at, $3),
        updated_at = $3,
        version = version + 1,
        left_groups = '{{}}'
    WHERE id = $1 OR merged_into = $1
    RETURNING {PERSON}
    """,
)


async def merge(tx: Transaction, member_id: UUID, into: UUID, at: datetime) -> list[Person]:
    """Let a record stand for a member, and for all that were merged into it before; returns those.

    Each points to the last one itself, so that events about them may come in any order.
    """
    return [person_of(row) for row in await tx.fetch(_MERGE, member_id, into, at)]


def _merged(ids: str) -> str:
    """Ids with the kept record in place of the other, once."""
    return f"CASE WHEN $2 = ANY ({ids}) THEN array_remove({ids}, $1) ELSE array_replace({ids}, $1, $2) END"


# Before anything else is read of them: who gathers or changes one meanwhile is waited for, and waits.
_LOCK_MESSAGES = statement(
    "messages.lock_unsent",
    """
    SELECT id
    FROM messages
    WHERE (
            status IN ('awaiting_approval', 'scheduled', 'accepted', 'declined')
            OR (status = 'sending' AND NOT resolved)
        )
        AND ($1 = ANY (target_ids) OR $1 = ANY (excluded_member_ids) OR resend_of IS NOT NULL)
    ORDER BY id
    FOR UPDATE
    """,
)
# To whom a broadcast goes that is being sent is left alone: its cursor may be past one of the two numbers, and the
# person would get it twice. Whom it excludes is not: who is past got none.
_RETARGET = statement(
    "messages.retarget",
    f"""
    UPDATE messages
    SET target_ids = CASE WHEN dispatched_at IS NULL THEN {_merged("target_ids")} ELSE target_ids END,
        excluded_member_ids = {_merged("excluded_member_ids")}
    WHERE id = ANY ($3::uuid[])
    """,
)
_RETARGET_RESENDS = statement(
    "resend_members.retarget",
    """
    INSERT INTO resend_members (message_id, member_id, church_id)
    SELECT kept.message_id, $2, kept.church_id
    FROM resend_members AS kept
    JOIN messages ON messages.id = kept.message_id
    WHERE kept.message_id = ANY ($3::uuid[]) AND kept.member_id = $1 AND messages.dispatched_at IS NULL
    ON CONFLICT DO NOTHING
    """,
)
_RETARGET_RECURRING = statement(
    "recurring_messages.retarget",
    f"""
    WITH named AS MATERIALIZED (
        SELECT id
        FROM recurring_messages
        WHERE $1 = ANY (target_ids) OR $1 = ANY (excluded_member_ids)
        ORDER BY id
        FOR UPDATE
    )
    UPDATE recurring_messages
    SET target_ids = {_merged("target_ids")}, excluded_member_ids = {_merged("excluded_member_ids")}
    FROM named
    WHERE recurring_messages.id = named.id
    """,
)


async def retarget(tx: Transaction, member_id: UUID, into: UUID) -> None:
    """Let what is still to be sent go to the kept record in place of the other, or to neither where it is excluded."""
    await tx.execute(_RETARGET_RECURRING, member_id, into)
    unsent = [row["id"] for row in await tx.fetch(_LOCK_MESSAGES, member_id)]
    await tx.execute(_RETARGET, member_id, into, unsent)
    await tx.execute(_RETARGET_RESENDS, member_id, into, unsent)
