"""A member's copies: looked for by the phones that the member has or had, newest first."""

from collections.abc import Sequence
from uuid import UUID

import msgspec

from koinonia.db import Transaction, statement
from koinonia_delivery.store.recipients import COLUMNS, Recipient, recipient_of

_GREATEST = UUID(int=2**128 - 1)


class Copy(msgspec.Struct, frozen=True, kw_only=True):
    """A recipient, and what was written to it."""

    recipient: Recipient
    text: str
    media_urls: Sequence[str]


_IS_MEMBER = statement("consents.is_member", "SELECT EXISTS (SELECT FROM consents WHERE member_id = $1)")


async def is_member(tx: Transaction, member_id: UUID) -> bool:
    """Whether messaging has told of such a member of the tenant; also of one that was deleted since."""
    return bool(await tx.fetch_value(_IS_MEMBER, member_id))


# A phone's copies come out of each partition in the order of their ids, the newest partition first; no more are read
# than the page needs. A reply to somebody unknown, and what the law wants said, names no member; a code or a draft to
# an admin's own phone names itself, and is nobody's here.
_LIST = statement(
    "recipients.list_of_member",
    f"""
    WITH kept AS MATERIALIZED (
        SELECT coalesce((SELECT merged_into FROM consents WHERE member_id = $1), $1) AS id
    ),
    person AS MATERIALIZED (
        SELECT array_append(array_agg(member_id), (SELECT id FROM kept)) AS ids
        FROM consents
        WHERE merged_into = (SELECT id FROM kept)
    )
    SELECT copy.*
    FROM (
        SELECT DISTINCT phone_index FROM member_phones WHERE member_id = ANY ((SELECT ids FROM person)::uuid[])
    ) AS phone
    CROSS JOIN LATERAL (
        SELECT {COLUMNS}, recipients.text, recipients.media_urls
        FROM recipients
        WHERE recipients.phone_index = phone.phone_index
            AND recipients.id < $2
            AND recipients.test = $4
            AND (recipients.member_ids && (SELECT ids FROM person) OR recipients.member_ids = '{{}}')
        ORDER BY recipients.id DESC
        LIMIT $3
    ) AS copy
    ORDER BY copy.id DESC
    LIMIT $3
    """,
)


async def list_page(
    tx: Transaction, member_id: UUID, *, before: UUID | None, limit: int, test: bool = False
) -> list[Copy]:
    """The copies of a member that are older than ``before``, newest first: tests, or all that are none.

    What went to a record that was merged into this one is this one's, and the other way round.
    """
    rows = await tx.fetch(_LIST, member_id, before or _GREATEST, limit, test)
    return [Copy(recipient=recipient_of(row), text=row["text"], media_urls=row["media_urls"]) for row in rows]
