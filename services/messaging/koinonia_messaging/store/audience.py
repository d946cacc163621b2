"""The members of an audience: counted, or page by page in the order of their numbers' blind indexes.

One statement per kind of target, so that each has a plan of its own.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

import asyncpg
import msgspec

from koinonia import sms
from koinonia.api.messages import TargetType
from koinonia.db import Statement, Transaction, statement
from koinonia.sms import PLAIN_PATTERN
from koinonia_messaging.domain.audience import TOGETHER, AudienceMember, Target
from koinonia_messaging.domain.messages import AudienceFigures

PAGE_NUMBERS = 500

# $1 is always the target's ids.
_CONDITIONS: dict[TargetType, str] = {
    "all": "cardinality($1::uuid[]) = 0",
    "individual": "members.id = ANY($1::uuid[])",
    "branches": "members.branch_id = ANY($1::uuid[])",
    # IS TRUE keeps the planner from a join: on tables without statistics it would compare each with each.
    "groups": """
        (members.id IN (SELECT member_id FROM group_members WHERE group_id = ANY($1::uuid[]))) IS TRUE
    """,
}
# For a page, which looks at few members: each by the index, and not a list of the whole group for every page.
_PAGE_CONDITIONS = _CONDITIONS | {
    "groups": """
        (SELECT true FROM group_members WHERE member_id = members.id AND group_id = ANY($1::uuid[]) LIMIT 1)
    """,
}


def _for_each_kind(
    name: str, sql: str, conditions: Mapping[TargetType, str] = _CONDITIONS
) -> dict[TargetType, Statement]:
    return {
        kind: statement(f"audience.{name}_{kind}", sql.replace("{audience}", condition))
        for kind, condition in conditions.items()
    }


_TARGETS: dict[TargetType, str] = {
    "all": "cardinality($1::uuid[])",
    "individual": "(SELECT count(*) FROM members WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL)",
    "branches": "(SELECT count(*) FROM branches WHERE id = ANY($1::uuid[]))",
    "groups": "(SELECT count(*) FROM groups WHERE id = ANY($1::uuid[]))",
}
_CHECK: dict[TargetType, Statement] = {
    kind: statement(
        f"audience.check_{kind}",
        """
        SELECT
            {targets} AS targets,
            $2::uuid IS NULL
                OR EXISTS (SELECT FROM numbers WHERE number_id = $2 AND status IN ('active', 'held')) AS sender
        """.replace("{targets}", targets),
    )
    for kind, targets in _TARGETS.items()
}


async def check(tx: Transaction, target: Target, number_id: UUID | None) -> tuple[bool, bool]:
    """Whether all that the target names is the church's, and whether its number can send: now, or after a hold."""
    row = await tx.fetch_row(_CHECK[target.kind], target.ids, number_id)
    return (row is not None and row["targets"] == len(target.ids), row is not None and row["sender"])


_COUNT = _for_each_kind(
    "count",
    """
    WITH numbers AS (
        SELECT phone_index, bool_or(opted_in) AS consents
        FROM members
        WHERE deleted_at IS NULL AND {audience}
        GROUP BY phone_index
    )
    SELECT
        count(*) AS numbers,
        count(*) FILTER (WHERE consents AND suppressions.phone_index IS NULL) AS textable
    FROM numbers
    LEFT JOIN suppressions ON suppressions.phone_index = numbers.phone_index AND suppressions.suppressed
    """,
)
# The values of people who share a number are joined: the sum is never below what the joined value has.
_MEASURE = _for_each_kind(
    "measure",
    """
    WITH field_values AS (
        SELECT
            phone_index,
            field.name,
            CASE field.name
                WHEN 'firstName' THEN first_name
                WHEN 'lastName' THEN last_name
                ELSE custom_fields ->> field.name
            END AS value
        FROM members
        CROSS JOIN unnest($2::text[]) AS field (name)
        WHERE deleted_at IS NULL AND {audience}
    ), joined AS (
        SELECT name, sum(length(value) + $3) - $3 AS length, bool_and(value ~ $4) AS plain
        FROM field_values
        WHERE value <> ''
        GROUP BY phone_index, name
    )
    SELECT name, max(length)::int AS longest, bool_and(plain) AS plain FROM joined GROUP BY name
    """,
)


async def count(tx: Transaction, target: Target, content: str) -> AudienceFigures:
    """Count an audience's distinct numbers, and measure what its members have for the text's fields."""
    row = await tx.fetch_row(_COUNT[target.kind], target.ids)
    names = sms.field_names(content)
    measured = await tx.fetch(_MEASURE[target.kind], target.ids, names, len(TOGETHER), PLAIN_PATTERN) if names else []
    return AudienceFigures(
        numbers=row["numbers"] if row else 0,
        textable=row["textable"] if row else 0,
        longest={each["name"]: each["longest"] for each in measured},
        plain=all(each["plain"] for each in measured),
    )


_LIST_PAGE = _for_each_kind(
    "list_page",
    """
    WITH page AS MATERIALIZED (
        SELECT DISTINCT phone_index
        FROM members
        WHERE deleted_at IS NULL AND phone_index > $2 AND {audience}
        ORDER BY phone_index
        LIMIT $3
    )
    SELECT
        members.id, first_name, last_name, members.phone_index, phone_ciphertext, opted_in, custom_fields,
        suppressions.phone_index IS NOT NULL AS suppressed
    FROM members
    LEFT JOIN suppressions ON suppressions.phone_index = members.phone_index AND suppressions.suppressed
    WHERE deleted_at IS NULL AND {audience}
        AND members.phone_index > $2  -- a range, not a join: see above
        AND members.phone_index <= (SELECT phone_index FROM page ORDER BY phone_index DESC LIMIT 1)
    ORDER BY members.phone_index, members.id
    """,
    _PAGE_CONDITIONS,
)


async def list_page(
    tx: Transaction, target: Target, after: bytes, numbers: int = PAGE_NUMBERS
) -> Sequence[AudienceMember]:
    """The members behind the next distinct numbers after ``after``, in the order of number and member."""
    return [_member(row) for row in await tx.fetch(_LIST_PAGE[target.kind], target.ids, after, numbers)]


def _member(row: asyncpg.Record) -> AudienceMember:
    return AudienceMember(
        id=row["id"],
        first_name=row["first_name"],
        last_name=row["last_name"],
        phone_index=row["phone_index"],
        phone_ciphertext=row["phone_ciphertext"],
        custom_fields=msgspec.json.decode(row["custom_fields"], type=dict[str, str]),
        opted_in=row["opted_in"],
        suppressed=row["suppressed"],
    )
