"""Pairs of members who are likely one person, as rows: over the indexes of phone, e-mail and name, in this order."""

from typing import Literal
from uuid import UUID

import msgspec

from koinonia.db import Statement, Transaction, statement

Reason = Literal["phone", "email", "name"]
REASONS: tuple[Reason, ...] = ("phone", "email", "name")
Place = tuple[Reason, UUID]
"""After the pair of this reason and newer member."""
SHARED_VALUES = 1000
"""Of one kind, looked at for one page: most phones that are shared are a family's."""
MOST_SHARING = 50
"""Members, beyond whom a value says nothing of who is whom: each is compared with each."""
_FIRST = UUID(int=0)


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """A member, and the first who is likely the same."""

    reason: Reason
    older_id: UUID
    newer_id: UUID


# One's first name begins with the other's (Ann, A.), has one letter more, less or another (Jon), or the words are the
# same in another order. A family's names are none of that.
_SIMILAR = """
    (
        starts_with(split_part(older.name_words, ' ', 1), split_part(newer.name_words, ' ', 1))
        OR starts_with(split_part(newer.name_words, ' ', 1), split_part(older.name_words, ' ', 1))
        OR ARRAY(SELECT word FROM string_to_table(older.name_words, ' ') AS word ORDER BY word)
            = ARRAY(SELECT word FROM string_to_table(newer.name_words, ' ') AS word ORDER BY word)
        OR EXISTS (
            SELECT
            FROM (
                SELECT split_part(older.name_words, ' ', 1) AS one, split_part(newer.name_words, ' ', 1) AS other
            ) AS first
            CROSS JOIN generate_series(0, least(length(one), length(other))) AS place
            WHERE greatest(length(one), length(other)) >= 4
                AND left(one, place) = left(other, place)
                AND (
                    substr(one, place + 2) = substr(other, place + 2)
                    OR substr(one, place + 2) = substr(other, place + 1)
                    OR substr(one, place + 1) = substr(other, place + 2)
                )
        )
    )
"""
# Each is shown once, by its strongest reason.
_CONDITIONS: dict[Reason, str] = {
    "phone": _SIMILAR,
    "email": f"NOT (older.phone_index = newer.phone_index AND {_SIMILAR})",
    "name": """
        older.phone_index <> newer.phone_index
        AND (older.email_index = newer.email_index) IS NOT TRUE
        AND newer.name_words LIKE '% %'
    """,
}


def _list(reason: Reason, column: str, nothing: str) -> Statement:
    """The pairs that share a column's value, in the order of value and newer member, from after the member $1 on.

    Values that one member alone has, or too many, are passed by in the index. OFFSET 0 keeps the planner from
    joining all with all. Where $2 values were looked at, the last row names where that ended: its member has the
    last of them.
    """
    start = f"(SELECT coalesce((SELECT {column} FROM members WHERE id = $1), {nothing}))"
    return statement(
        f"members.list_doubles_{reason}",
        f"""
        WITH shared AS MATERIALIZED (
            SELECT {column} AS value
            FROM members
            WHERE {column} IS NOT NULL AND deleted_at IS NULL AND {column} >= {start}
            GROUP BY {column}
            HAVING count(*) BETWEEN 2 AND {MOST_SHARING}
            ORDER BY {column}
            LIMIT $2
        ), found AS (
            SELECT pair.older_id, pair.newer_id
            FROM shared
            CROSS JOIN LATERAL (
                SELECT newer.id AS newer_id, (
                    SELECT older.id
                    FROM members AS older
                    WHERE older.{column} = shared.value AND older.deleted_at IS NULL AND older.id < newer.id
                        AND {_CONDITIONS[reason]}
                    ORDER BY older.id
                    LIMIT 1
                ) AS older_id
                FROM members AS newer
                WHERE newer.{column} = shared.value AND newer.deleted_at IS NULL
                OFFSET 0
            ) AS pair
            WHERE pair.older_id IS NOT NULL AND (shared.value, pair.newer_id) > ({start}, $1)
            ORDER BY shared.value, pair.newer_id
            LIMIT $3
        )
        SELECT older_id, newer_id FROM found
        UNION ALL
        SELECT NULL, (
            SELECT id
            FROM members
            WHERE {column} = (SELECT value FROM shared ORDER BY value DESC LIMIT 1) AND deleted_at IS NULL
            ORDER BY id DESC
            LIMIT 1
        )
        WHERE (SELECT count(*) FROM shared) = $2
        """,
    )


_LIST: dict[Reason, Statement] = {
    "phone": _list("phone", "phone_index", "''::bytea"),
    "email": _list("email", "email_index", "''::bytea"),
    "name": _list("name", "name_words", "''"),
}


async def list_page(tx: Transaction, after: Place | None, limit: int) -> tuple[list[Pair], Place | None]:
    """Likely doubles from after a place on, and up to where was looked when that ended before there were ``limit``."""
    reason, newer_id = after or (REASONS[0], _FIRST)
    found: list[Pair] = []
    for each in REASONS[REASONS.index(reason) :]:
        rows = await tx.fetch(_LIST[each], newer_id, SHARED_VALUES, limit - len(found))
        pairs = [row for row in rows if row["older_id"] is not None]
        found += [Pair(reason=each, older_id=row["older_id"], newer_id=row["newer_id"]) for row in pairs]
        if len(found) == limit:
            break
        ends = [row["newer_id"] for row in rows if row["older_id"] is None]
        if ends:
            return found, (each, ends[0])
        newer_id = _FIRST
    return found, None
