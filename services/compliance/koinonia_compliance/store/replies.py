"""How many automatic replies a number has had."""

from datetime import datetime

from koinonia.db import Transaction, statement

_COUNT_ONE = statement(
    "automatic_replies.count_one",
    """
    INSERT INTO automatic_replies AS known (church_id, phone_index, hour_began_at, replies)
    VALUES ($1, $2, $3::timestamptz, 1)
    ON CONFLICT (church_id, phone_index) DO UPDATE
    SET
        hour_began_at = CASE WHEN known.hour_began_at <= $3 - interval '1 hour' THEN $3 ELSE known.hour_began_at END,
        replies = CASE WHEN known.hour_began_at <= $3 - interval '1 hour' THEN 1 ELSE known.replies + 1 END
    WHERE known.replies < $4 OR known.hour_began_at <= $3 - interval '1 hour'
    """,
)


async def count_one(tx: Transaction, phone_index: bytes, *, at: datetime, most: int) -> bool:
    """Count one more reply to a number, unless it has had ``most`` within the hour that its first one began."""
    return await tx.execute(_COUNT_ONE, tx.tenant, phone_index, at, most) == 1
