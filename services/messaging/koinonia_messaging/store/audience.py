"""The members of an audience: counted, or page by page in the order of their numbers' blind indexes.

One statement per kind of target, so that each has a plan of its own; another one where somebody is excluded, so that
who excludes nobody pays nothing for it.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from koinonia import sms
from koinonia.db import Statement, Transaction, statement
from koinonia.sms import DOTS, ELLIPSIS, LINK_PATTERN, PLAIN_PATTERN, SMART_FROM, SMART_TO
from koinonia_messaging.domain.audience import TOGETHER, AudienceMember, Excluded, Target, TargetKind, Text
from koinonia_messaging.domain.messages import AudienceFigures

PAGE_NUMBERS = 500

# $1 is always the target's ids.
_CONDITIONS: dict[TargetKind, str] = {
    "all": "cardinality($1::uuid[]) = 0",
    "individual": "members.id = ANY($1::uuid[])",
    "branches": "members.branch_id = ANY($1::uuid[])",
    # IS TRUE keeps the planner from a join: on tables without statistics it would compare each with each.
    "groups": """
        (members.id IN (SELECT member_id FROM group_members WHERE group_id = ANY($1::uuid[]))) IS TRUE
    """,
    "not_reached": """
        (members.id IN (SELECT member_id FROM resend_members WHERE message_id = ANY($1::uuid[]))) IS TRUE
    """,
}
# For a page, which looks at few members: each by the index, and not a list of the whole group for every page.
_PAGE_CONDITIONS = _CONDITIONS | {
    "groups": """
        (SELECT true FROM group_members WHERE member_id = members.id AND group_id = ANY($1::uuid[]) LIMIT 1)
    """,
    "not_reached": """
        (SELECT true FROM resend_members WHERE member_id = members.id AND message_id = ANY($1::uuid[]) LIMIT 1)
    """,
}
# Numbers, not people: who is excluded gets no text, and none that a family member gets on the same phone.
_NOT_EXCLUDED = """
    members.phone_index NOT IN (
        SELECT phone_index FROM members WHERE id = ANY({members}::uuid[]) AND deleted_at IS NULL
        UNION ALL
        SELECT phone_index FROM members WHERE branch_id = ANY({branches}::uuid[]) AND deleted_at IS NULL
        UNION ALL
        SELECT phone_index
        FROM members
        WHERE id IN (SELECT member_id FROM group_members WHERE group_id = ANY({groups}::uuid[])) AND deleted_at IS NULL
    )
"""
# For a page: each number by the index, and not a list of all the excluded for every page. The range and the order leave
# no other index to a planner without statistics, which takes the whole church for one row.
_PAGE_NOT_EXCLUDED = """
    (
        SELECT true
        FROM members AS other
        WHERE other.phone_index >= members.phone_index
            AND other.phone_index <= members.phone_index
            AND other.deleted_at IS NULL
            AND (
                other.id = ANY({members}::uuid[])
                OR other.branch_id = ANY({branches}::uuid[])
                OR (
                    SELECT true
                    FROM group_members
                    WHERE member_id = other.id AND group_id = ANY({groups}::uuid[])
                    LIMIT 1
                )
            )
        ORDER BY other.phone_index
        LIMIT 1
    ) IS NULL
"""


class Reading(NamedTuple):
    """A statement about an audience, for each kind of target: of all of it, and without the excluded."""

    all: Mapping[TargetKind, Statement]
    excluding: Mapping[TargetKind, Statement]


def reading(
    name: str,
    sql: str,
    values: int,
    conditions: Mapping[TargetKind, str] = _CONDITIONS,
    not_excluded: str = _NOT_EXCLUDED,
) -> Reading:
    """A statement with its condition on members in the place of ``{audience}``. Its first value are the target's ids;
    the ids of the excluded follow all of its ``values``.
    """
    places = {kind: f"${values + place}" for place, kind in enumerate(("members", "groups", "branches"), start=1)}
    left = not_excluded.format_map(places)
    without = {kind: f"{condition} AND {left}" for kind, condition in conditions.items()}
    return Reading(_for_each_kind(name, sql, conditions), _for_each_kind(f"{name}_excluding", sql, without))


def _for_each_kind(name: str, sql: str, conditions: Mapping[TargetKind, str]) -> dict[TargetKind, Statement]:
    return {
        kind: statement(f"audience.{name}_{kind}", sql.replace("{audience}", condition))
        for kind, condition in conditions.items()
    }


async def fetch(tx: Transaction, what: Reading, target: Target, *values: object) -> Sequence[asyncpg.Record]:
    """The rows of a statement about a target's people."""
    excluded = target.excluded
    if not excluded:
        return await tx.fetch(what.all[target.kind], target.ids, *values)
    ids = (excluded.member_ids, excluded.group_ids, excluded.branch_ids)
    return await tx.fetch(what.excluding[target.kind], target.ids, *values, *ids)


_TARGETS: dict[TargetKind, str] = {
    "all": "cardinality($1::uuid[])",
    "individual": "(SELECT count(*) FROM members WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL)",
    "branches": "(SELECT count(*) FROM branches WHERE id = ANY($1::uuid[]))",
    "groups": "(SELECT count(*) FROM groups WHERE id = ANY($1::uuid[]))",
}
_CHECK: dict[TargetKind, Statement] = {
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


_CHECK_EXCLUDED = statement(
    "audience.check_excluded",
    """
    SELECT
        (SELECT count(*) FROM members WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL) AS members,
        (SELECT count(*) FROM (SELECT FROM groups WHERE id = ANY($2::uuid[]) FOR KEY SHARE) AS kept) AS groups,
        (SELECT count(*) FROM (SELECT FROM branches WHERE id = ANY($3::uuid[]) FOR KEY SHARE) AS kept) AS branches
    """,
)


async def check_excluded(tx: Transaction, excluded: Excluded) -> list[str]:
    """The fields of ``exclude`` that name something that is not the church's.

    Nobody deletes the groups and branches until the transaction ends: whoever does, sees then who excludes them.
    """
    if not excluded:
        return []
    row = await tx.fetch_row(_CHECK_EXCLUDED, excluded.member_ids, excluded.group_ids, excluded.branch_ids)
    assert row is not None, "counts are one row"  # noqa: S101
    named = {
        "memberIds": (row["members"], excluded.member_ids),
        "groupIds": (row["groups"], excluded.group_ids),
        "branchIds": (row["branches"], excluded.branch_ids),
    }
    return [name for name, (known, ids) in named.items() if known != len(ids)]


# Who is in a deleted group is excluded no more.
_EXCLUDES = statement(
    "audience.excludes",
    """
    SELECT EXISTS (
        SELECT
        FROM messages
        WHERE (
                status IN ('awaiting_approval', 'scheduled', 'accepted')
                OR (status = 'sending' AND NOT resolved)
            )
            AND $1 = ANY (excluded_group_ids || excluded_branch_ids)
    ) OR EXISTS (
        SELECT FROM recurring_messages WHERE $1 = ANY (excluded_group_ids || excluded_branch_ids)
    )
    """,
)


async def is_excluded(tx: Transaction, group_or_branch_id: UUID) -> bool:
    """Whether a message that waits or is being sent, or a recurring one, excludes a group or branch."""
    return bool(await tx.fetch_value(_EXCLUDES, group_or_branch_id))


_COUNT = reading(
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
        count(*) FILTER (WHERE consents AND suppressions.phone_index IS NULL) AS textable,
        count(suppressions.phone_index) AS suppressed,
        -- Blind indexes are as good as random, so that eight of their bytes tell sets apart.
        coalesce(
            bit_xor(('x' || encode(substr(numbers.phone_index, 1, 8), 'hex'))::bit(64)::bigint)
                FILTER (WHERE consents AND suppressions.phone_index IS NULL),
            0
        ) AS digest
    FROM numbers
    LEFT JOIN suppressions ON suppressions.phone_index = numbers.phone_index AND suppressions.suppressed
    """,
    values=1,
)
# What each number's people have for the fields `$2`; smart encoded as `sms.smart_value` does it, by `$3` to `$8`.
FIELD_VALUES = """
    raw AS (
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
    ), field_values AS (
        SELECT
            phone_index,
            name,
            CASE
                WHEN $3::bool AND value !~* $4 THEN translate(replace(value, $5, $6), $7, $8)
                ELSE value
            END AS value
        FROM raw
    )"""
# The values of people who share a number are joined: the sum is never below what the joined value has.
_MEASURE = reading(
    "measure",
    """
    WITH """
    + FIELD_VALUES
    + """, joined AS (
        SELECT name, sum(length(value) + $9) - $9 AS length, bool_and(value ~ $10) AS plain
        FROM field_values
        WHERE value <> ''
        GROUP BY phone_index, name
    )
    SELECT name, max(length)::int AS longest, bool_and(plain) AS plain FROM joined GROUP BY name
    """,
    values=10,
)
SMART = (LINK_PATTERN, ELLIPSIS, DOTS, SMART_FROM, SMART_TO)


async def count(tx: Transaction, target: Target, text: Text) -> AudienceFigures:
    """Count an audience's distinct numbers, and measure what its members have for the text's fields."""
    (row,) = await fetch(tx, _COUNT, target)
    names = sms.field_names(text.content)
    values = (names, text.smart, *SMART, len(TOGETHER), PLAIN_PATTERN)
    measured = await fetch(tx, _MEASURE, target, *values) if names else []
    return AudienceFigures(
        numbers=row["numbers"],
        textable=row["textable"],
        suppressed=row["suppressed"],
        digest=row["digest"],
        longest={each["name"]: each["longest"] for each in measured},
        plain=all(each["plain"] for each in measured),
    )


_LIST_PAGE = reading(
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
        members.id, first_name, last_name, members.phone_index, phone_ciphertext, opted_in, custom_fields, branch_id,
        suppressions.phone_index IS NOT NULL AS suppressed
    FROM members
    LEFT JOIN suppressions ON suppressions.phone_index = members.phone_index AND suppressions.suppressed
    WHERE deleted_at IS NULL AND {audience}
        AND members.phone_index > $2  -- a range, not a join: see above
        AND members.phone_index <= (SELECT phone_index FROM page ORDER BY phone_index DESC LIMIT 1)
    ORDER BY members.phone_index, members.id
    """,
    values=3,
    conditions=_PAGE_CONDITIONS,
    not_excluded=_PAGE_NOT_EXCLUDED,
)


async def list_page(
    tx: Transaction, target: Target, after: bytes, numbers: int = PAGE_NUMBERS
) -> Sequence[AudienceMember]:
    """The members behind the next distinct numbers after ``after``, in the order of number and member."""
    rows = await fetch(tx, _LIST_PAGE, target, after, numbers)
    return [_member(row) for row in rows]


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
        branch_id=row["branch_id"],
    )
