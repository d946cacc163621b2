"""Figures, as rows: kept by what changes the things they count, read without counting, and put right again."""

from collections.abc import Mapping, Sequence
from datetime import date
from uuid import UUID

import asyncpg
import msgspec

from koinonia.api.branches import BranchStats
from koinonia.db import Transaction, statement
from koinonia_messaging.domain.figures import COLUMNS, Sums, fared
from koinonia_messaging.domain.messages import STATUSES
from koinonia_messaging.store.broadcasts import Place

_FIND_DASHBOARD = statement(
    "figures.find_dashboard",
    f"""
    WITH people AS (
        SELECT coalesce(sum(members), 0)::int AS members, coalesce(sum(opted_in), 0)::int AS opted_in
        FROM branch_people
    )
    SELECT
        people.*,
        (SELECT count(*) FROM groups) AS groups,
        (SELECT count(*) FROM branches) AS branches,
        (SELECT timezone FROM churches) AS timezone,
        day, {", ".join(COLUMNS)}
    FROM people
    LEFT JOIN day_figures ON day BETWEEN $1 AND $2
    """,
)


class Glance(msgspec.Struct, frozen=True, kw_only=True):
    """A church's people, and the days on which it sent."""

    timezone: str | None
    members: int
    opted_in: int
    groups: int
    branches: int
    days: Mapping[date, Sums]


async def find_dashboard(tx: Transaction, since: date, until: date) -> Glance:
    """Everything of the dashboard, in one statement; a church's groups and branches are few, and read as a list reads
    them.
    """
    rows = await tx.fetch(_FIND_DASHBOARD, since, until)
    return Glance(
        timezone=rows[0]["timezone"],
        members=rows[0]["members"],
        opted_in=rows[0]["opted_in"],
        groups=rows[0]["groups"],
        branches=rows[0]["branches"],
        days=_by_day(rows),
    )


_LIST_DAYS = statement(
    "figures.list_days",
    f"""
    SELECT zone.timezone, day, {", ".join(COLUMNS)}
    FROM (SELECT (SELECT timezone FROM churches) AS timezone) AS zone
    LEFT JOIN day_figures ON day BETWEEN $1 AND $2
    """,
)


async def list_days(tx: Transaction, since: date, until: date) -> tuple[str | None, Mapping[date, Sums]]:
    """The church's zone, and its days with texts."""
    rows = await tx.fetch(_LIST_DAYS, since, until)
    return rows[0]["timezone"], _by_day(rows)


def _sums(row: asyncpg.Record) -> Sums:
    """A row's counters; none where the join found no row."""
    return Sums(**{name: row[name] or 0 for name in COLUMNS})


def _by_day(rows: Sequence[asyncpg.Record]) -> dict[date, Sums]:
    return {row["day"]: _sums(row) for row in rows if row["day"] is not None}


_LIST_BRANCHES = statement(
    "figures.list_branches",
    f"""
    SELECT
        id, name, is_default, coalesce(members, 0) AS members, coalesce(opted_in, 0) AS opted_in,
        (SELECT count(*) FROM groups WHERE groups.branch_id = branches.id) AS groups, {", ".join(COLUMNS)}
    FROM branches
    LEFT JOIN branch_people ON branch_people.branch_id = branches.id AND branch_people.church_id = branches.church_id
    LEFT JOIN branch_figures
        ON branch_figures.branch_id = branches.id AND branch_figures.church_id = branches.church_id
    WHERE $1::uuid IS NULL OR id < $1
    ORDER BY id DESC
    LIMIT $2
    """,
)


async def list_branches(tx: Transaction, before: UUID | None, limit: int) -> list[BranchStats]:
    """Branches with their figures, newest first, from after ``before`` on; one statement, however many."""
    return [
        BranchStats(
            id=row["id"],
            name=row["name"],
            is_default=row["is_default"],
            members=row["members"],
            opted_in=row["opted_in"],
            groups=row["groups"],
            **msgspec.structs.asdict(fared(_sums(row))),
        )
        for row in await tx.fetch(_LIST_BRANCHES, before, limit)
    ]


# After the messages are locked by their counters: whoever comes to these rows takes them in one order.
_COUNT_BRANCHES = statement(
    "figures.count_branches",
    f"""
    WITH delta AS MATERIALIZED (
        SELECT delta.*
        FROM unnest(
            $1::uuid[], $2::uuid[], $3::uuid[], {", ".join(f"${place}::int[]" for place in range(4, 4 + len(STATUSES)))}
        ) AS delta (message_id, church_id, branch_id, {", ".join(STATUSES)})
        JOIN messages ON messages.id = delta.message_id AND messages.church_id = delta.church_id
        WHERE NOT test
    ), kept AS (
        INSERT INTO message_branches AS known (message_id, church_id, branch_id, {", ".join(STATUSES)})
        SELECT message_id, church_id, branch_id, {", ".join(STATUSES)}
        FROM delta
        ORDER BY message_id, branch_id
        ON CONFLICT (message_id, branch_id) DO UPDATE
        SET {", ".join(f"{status} = known.{status} + excluded.{status}" for status in STATUSES)}
        RETURNING message_id, branch_id, xmax = 0 AS is_new
    )
    INSERT INTO branch_figures AS known (church_id, branch_id, messages, {", ".join(STATUSES)})
    SELECT
        church_id, branch_id, count(*) FILTER (WHERE is_new),
        {", ".join(f"sum({status})" for status in STATUSES)}
    FROM delta
    JOIN kept USING (message_id, branch_id)
    GROUP BY church_id, branch_id
    ORDER BY church_id, branch_id
    ON CONFLICT (church_id, branch_id) DO UPDATE
    SET {", ".join(f"{name} = known.{name} + excluded.{name}" for name in COLUMNS)}
    """,
)


async def count_branches(tx: Transaction, changes: Mapping[tuple[Place, UUID], Mapping[str, int]]) -> None:
    """Add differences to the branches of any number of messages, each ``(message, branch)`` once."""
    await tx.execute(
        _COUNT_BRANCHES,
        [place.message_id for place, _ in changes],
        [place.church_id for place, _ in changes],
        [branch_id for _, branch_id in changes],
        *([change.get(status, 0) for change in changes.values()] for status in STATUSES),
    )


# What figures and rows differ by stands in one snapshot, whoever writes meanwhile: each writes both in one transaction.
# And what is added to a figure adds up with what others add, so that nobody need wait for a count.
_PEOPLE = ("members", "opted_in")
_COUNTS = {
    "day_figures": (
        "day",
        COLUMNS,
        f"""
        SELECT day, count(*) AS messages, {", ".join(f"sum({status}) AS {status}" for status in STATUSES)}
        FROM messages
        WHERE church_id = $1 AND day IS NOT NULL AND NOT test
        GROUP BY day
        """,
    ),
    "branch_figures": (
        "branch_id",
        COLUMNS,
        f"""
        SELECT branch_id, count(*) AS messages, {", ".join(f"sum({status}) AS {status}" for status in STATUSES)}
        FROM message_branches
        WHERE church_id = $1
        GROUP BY branch_id
        """,
    ),
    "branch_people": (
        "branch_id",
        _PEOPLE,
        """
        SELECT
            branch_id, count(*) AS members, count(*) FILTER (WHERE opted_in AND suppressed IS NOT TRUE) AS opted_in
        FROM members
        LEFT JOIN suppressions
            ON suppressions.church_id = members.church_id AND suppressions.phone_index = members.phone_index
        WHERE members.church_id = $1 AND deleted_at IS NULL
        GROUP BY branch_id
        """,
    ),
}


def _correction(table: str) -> str:
    key, columns, count = _COUNTS[table]
    return f"""
    WITH counted AS ({count}
    ), known AS (
        SELECT * FROM {table} WHERE church_id = $1
    ), wrong AS MATERIALIZED (
        SELECT
            {key},
            {", ".join(f"(coalesce(counted.{each}, 0) - coalesce(known.{each}, 0))::int AS {each}" for each in columns)}
        FROM counted
        FULL JOIN known USING ({key})
        WHERE ({", ".join(f"coalesce(counted.{each}, 0)" for each in columns)})
            <> ({", ".join(f"coalesce(known.{each}, 0)" for each in columns)})
    ), corrected AS (
        INSERT INTO {table} AS known (church_id, {key}, {", ".join(columns)})
        SELECT $1, {key}, {", ".join(columns)} FROM wrong WHERE $2 ORDER BY {key}
        ON CONFLICT (church_id, {key}) DO UPDATE
        SET {", ".join(f"{each} = known.{each} + excluded.{each}" for each in columns)}
    )
    SELECT {key}::text AS key, {", ".join(columns)} FROM wrong ORDER BY {key}
    """


_CORRECTIONS = {table: statement(f"figures.correct_{table}", _correction(table)) for table in _COUNTS}


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A row of figures that was not what its rows add up to: how much was missing, by column."""

    table: str
    key: str  # the day, or the branch
    missing: dict[str, int]


async def compare(tx: Transaction, church_id: UUID, *, correct: bool) -> list[Difference]:
    """What a church's figures differ by from a count over its rows; ``correct``: put it right."""
    found = []
    for table, (_, columns, _) in _COUNTS.items():
        rows = await tx.fetch(_CORRECTIONS[table], church_id, correct)
        found += [Difference(table=table, key=row["key"], missing=_nonzero(row, columns)) for row in rows]
    return found


def _nonzero(row: asyncpg.Record, columns: Sequence[str]) -> dict[str, int]:
    return {name: row[name] for name in columns if row[name]}


# Two at once would put the same thing right twice.
_LOCK = statement("figures.lock", "SELECT pg_advisory_xact_lock(hashtextextended('figures ' || $1, 0))")
_DATE_MESSAGES = statement(
    "messages.date",
    """
    WITH undated AS (
        SELECT id
        FROM messages
        WHERE church_id = $1 AND dispatched_at IS NOT NULL AND day IS NULL
        ORDER BY id
        FOR UPDATE
    )
    UPDATE messages
    SET day = (dispatched_at AT TIME ZONE coalesce(
        (SELECT name FROM pg_timezone_names WHERE name = (SELECT timezone FROM churches WHERE church_id = $1)), 'UTC'
    ))::date
    FROM undated
    WHERE messages.id = undated.id
    """,
)
_LIST_CHURCHES = statement(
    "figures.list_churches",
    "SELECT church_id FROM churches WHERE $1::uuid IS NULL OR church_id > $1 ORDER BY church_id LIMIT 100",
)


async def lock(tx: Transaction, church_id: UUID) -> None:
    """Let nobody else correct a church's figures until the transaction ends; they go on being kept."""
    await tx.execute(_LOCK, str(church_id))


async def date_messages(tx: Transaction, church_id: UUID) -> None:
    """Give a day to messages that code before days let begin, while a new version was being started.

    None of their counts is in a day's figures: ``compare`` finds them missing in the same transaction.
    """
    await tx.execute(_DATE_MESSAGES, church_id)


async def list_churches(tx: Transaction, after: UUID | None) -> list[UUID]:
    """A hundred churches, from after ``after`` on."""
    return [row["church_id"] for row in await tx.fetch(_LIST_CHURCHES, after)]
