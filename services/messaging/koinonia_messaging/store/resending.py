"""Messages that gather those whom another message did not reach."""

from collections.abc import Sequence
from uuid import UUID

from koinonia.db import Transaction, statement

# Whoever asks for the same takes turns on the message that failed: the index would end the second one in an error.
_LOCK_SOURCE = statement("messages.lock_source", "SELECT id FROM messages WHERE id = $1 FOR NO KEY UPDATE")
_HAS_RESEND = statement(
    "messages.has_resend",
    """
    SELECT EXISTS (
        SELECT
        FROM messages
        WHERE resend_of = $1
            AND status NOT IN ('declined', 'failed')
            AND (status <> 'cancelled' OR streamed_recipients > 0)
    )
    """,
)


async def is_free(tx: Transaction, message_id: UUID) -> bool:
    """Whether no message has gone, or may yet go, to those whom this one did not reach; keeps others from making one.

    One that was cancelled midway has gone to some: it would go to them again. Two statements: who has waited for the
    lock sees in the second what its holder has made.
    """
    await tx.fetch_value(_LOCK_SOURCE, message_id)
    return not await tx.fetch_value(_HAS_RESEND, message_id)


_LOCK_GATHERING = statement(
    "messages.lock_gathering",
    "SELECT true FROM messages WHERE id = $1 AND gathering AND status <> 'cancelled' FOR UPDATE",
)


async def lock_gathering(tx: Transaction, message_id: UUID) -> bool:
    """Lock a message that gathers; False: it has gathered, or was cancelled."""
    return bool(await tx.fetch_value(_LOCK_GATHERING, message_id))


_ADD_MEMBERS = statement(
    "resend_members.add",
    """
    INSERT INTO resend_members (message_id, member_id, church_id)
    SELECT DISTINCT $1::uuid, coalesce(members.merged_into, failed.member_id), $2::uuid
    FROM unnest($3::uuid[]) AS failed (member_id)
    LEFT JOIN members ON members.id = failed.member_id
    ON CONFLICT DO NOTHING
    """,
)


async def add_members(tx: Transaction, message_id: UUID, member_ids: Sequence[UUID]) -> None:
    """Keep whom it goes to: in place of a merged record the one that it was merged into. Who is kept already stays."""
    await tx.execute(_ADD_MEMBERS, message_id, tx.tenant, member_ids)


_END_GATHERING = statement("messages.end_gathering", "UPDATE messages SET gathering = false WHERE id = $1")


async def end_gathering(tx: Transaction, message_id: UUID) -> None:
    """All are known: it may become due."""
    await tx.execute(_END_GATHERING, message_id)
